"""A compiling process whose compiler crashes or never ends."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing.connection import Connection

from moebench.kernels.compiler.compilers import CompiledPart
from moebench.kernels.compiler.machine_code import CodeCounters, CodeReader
from moebench.kernels.compiler.survey import CompileOutcome

FIGURES = CodeCounters(warps=4, occupancy=2, registers=128, shared_bytes=0, code_bytes=16)


def work(connection: Connection, read: CodeReader) -> None:  # noqa: ARG001  # the signature of the function that it replaces
    """Compile nothing: die of cases of the kernel `fatal`, hang in those of `endless`, answer all others at once."""
    while True:
        part: CompiledPart = connection.recv()
        if part.case.kernel == "fatal":
            os.kill(os.getpid(), signal.SIGSEGV)
        if part.case.kernel == "endless":
            time.sleep(600)
        connection.send(CompileOutcome(case=part.case, launches={f"launch {part.first}": FIGURES}))
