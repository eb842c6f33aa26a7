"""Processes that compile side by side into Triton's cache on disk, where later launches find the code."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Self, cast

import torch

from ...common.cores import roaming
from ..signals import uninterrupted
from .machine_code import CodeReader, all_counters
from .survey import CompileCase, CompileOutcome, compile_case

LAUNCHES = 8  # of a training step: into so many parts a case is cut where there are more compilers than cases
HANG_S = 120.0  # a compiler starts in some seconds and compiles a launch in one or two; one that takes this long hangs
POLL_S = 1.0  # how late a hang may be noticed


@dataclass(frozen=True)
class CompiledPart:
    """The part of a case that one process compiles: its ``first`` launch and every ``stride``-th after it."""

    case: CompileCase
    first: int
    stride: int


class Compilers:
    """A pool of at most ``processes`` compilers, started when needed; leaving its context ends them.

    A case that takes its process down or never ends costs no other case. ``read`` reads the counters from the code.
    """

    def __init__(self, processes: int, read: CodeReader = all_counters) -> None:
        self._processes = processes
        self._read = read
        self._idle: list[_Compiler] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for compiler in self._idle:
            compiler.end()
        self._idle.clear()

    def compile(self, work: Sequence[CompileCase]) -> Generator[CompileOutcome, None, None]:
        """Yield outcomes in the order of the work. Of a case that fails no further launch is compiled."""
        stride = LAUNCHES if len(work) < self._processes else 1
        parts = [CompiledPart(case, first, stride) for case in work for first in range(stride)]
        waiting, done = deque(range(len(parts))), dict[int, CompileOutcome]()
        busy: dict[_Compiler, int] = {}
        try:
            for start in range(0, len(parts), stride):
                numbers = range(start, start + stride)
                while any(number in busy.values() or number in waiting for number in numbers):
                    while waiting and len(busy) < self._processes:
                        number = waiting.popleft()
                        compiler = self._idle.pop() if self._idle else _Compiler(self._read)
                        busy[compiler] = number
                        compiler.start(parts[number])
                    for compiler in _finished(busy):
                        number = busy.pop(compiler)
                        done[number] = self._take(compiler, parts[number])
                        if done[number].error:
                            waiting = deque(other for other in waiting if other // stride != number // stride)
                yield _together([done.pop(number) for number in numbers if number in done])
        finally:
            for compiler in busy:
                compiler.end()

    def _take(self, compiler: _Compiler, part: CompiledPart) -> CompileOutcome:
        """Return the outcome of a part, and keep its process when it is still alive."""
        answer = compiler.finish()
        if isinstance(answer, str):
            return CompileOutcome(case=part.case, launches={}, error=answer)
        self._idle.append(compiler)
        return answer


def _together(parts: Sequence[CompileOutcome]) -> CompileOutcome:
    """Join the parts of one case: their launches in the order of the case, and the first error."""
    rounds = zip_longest(*(part.launches.items() for part in parts))
    return CompileOutcome(
        case=parts[0].case,
        launches=dict(item for items in rounds for item in items if item is not None),
        error=next((part.error for part in parts if part.error), ""),
    )


def _finished(compilers: Iterable[_Compiler]) -> list[_Compiler]:
    """Wait for the first compilers that have finished, died or hang, and return them."""
    by_connection = {compiler.connection: compiler for compiler in compilers}
    while True:
        found = [by_connection[connection] for connection in wait(list(by_connection), POLL_S)]  # type: ignore[index]
        if found := found or [compiler for compiler in by_connection.values() if compiler.hangs]:
            return found


class _Compiler:
    """A process that compiles one part after another."""

    def __init__(self, read: CodeReader) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, there = context.Pipe()
        self._process = context.Process(target=_work, args=(there, read), daemon=True)
        self._since = 0.0
        with uninterrupted(), roaming():
            self._process.start()
        there.close()

    def start(self, part: CompiledPart) -> None:
        """Send it a part to compile; the connection is ready when it has finished, or died."""
        self._since = time.monotonic()
        with suppress(OSError):  # it is dead already, as `finish` will tell
            self.connection.send(part)

    @property
    def hangs(self) -> bool:
        """True if it has been compiling for longer than any launch takes."""
        return time.monotonic() - self._since > HANG_S

    def finish(self) -> CompileOutcome | str:
        """Return the outcome of the part, or how the process ended when it died or hangs."""
        try:
            if self.connection.poll():
                return cast(CompileOutcome, self.connection.recv())
            ending = f"the compiler took longer than {HANG_S:g} s"
        except (EOFError, OSError):
            ending = ""
        self.end()
        return ending or self._ended()

    def _ended(self) -> str:
        code = self._process.exitcode or 0
        if code < 0:
            return f"the compiler was killed by {signal.Signals(-code).name}"
        return f"the compiler ended with exit code {code}"

    def end(self) -> None:
        """Kill the process."""
        self.connection.close()
        self._process.kill()
        self._process.join()


def _work(connection: Connection, read: CodeReader) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # what fails is dumped there in full by LLVM
    torch.set_num_threads(1)
    with suppress(EOFError):
        while True:
            part: CompiledPart = connection.recv()
            connection.send(compile_case(part.case, read, first=part.first, stride=part.stride))
