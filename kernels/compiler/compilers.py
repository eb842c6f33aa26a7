"""Processes that compile side by side, into the cache on disk that Triton looks into wherever it is to compile."""

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

from ..signals import uninterrupted
from .machine_code import CodeReader, all_counters
from .survey import CompileCase, CompileOutcome, compile_case

LAUNCHES = 8  # of a training step: into so many parts a case is cut where there are more compilers than cases
HANG_S = 120.0  # a compiler starts in some seconds and compiles a launch in one or two; one that takes this long hangs
POLL_S = 1.0  # how late a hang may be noticed


@dataclass(frozen=True)
class CompiledPart:
    """What one process compiles of a case: its ``first`` launch and every ``stride``-th after it."""

    case: CompileCase
    first: int
    stride: int


class Compilers:
    """At most ``processes``, started when they are needed and kept until the end; a context manager that ends them.

    A case costs itself alone when it takes its process down or never ends. ``read`` says what is read from the code.
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
        """Outcomes in the order of the work. Of a case that fails no further launch is compiled."""
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
        """What came of a part; a process that lives on is kept."""
        answer = compiler.finish()
        if isinstance(answer, str):
            return CompileOutcome(case=part.case, launches={}, error=answer)
        self._idle.append(compiler)
        return answer


def _together(parts: Sequence[CompileOutcome]) -> CompileOutcome:
    """The parts of one case: their launches in the order of the case, and the first error."""
    rounds = zip_longest(*(part.launches.items() for part in parts))
    return CompileOutcome(
        case=parts[0].case,
        launches=dict(item for items in rounds for item in items if item is not None),
        error=next((part.error for part in parts if part.error), ""),
    )


def _finished(compilers: Iterable[_Compiler]) -> list[_Compiler]:
    """Those that have finished, died or hang; waits for the first."""
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
        with uninterrupted():
            self._process.start()
        there.close()

    def start(self, part: CompiledPart) -> None:
        """Let it compile; the connection is ready when it has, or when it died of it."""
        self._since = time.monotonic()
        with suppress(OSError):  # it is dead already, as `finish` will tell
            self.connection.send(part)

    @property
    def hangs(self) -> bool:
        """Whether it has been compiling for longer than anything takes."""
        return time.monotonic() - self._since > HANG_S

    def finish(self) -> CompileOutcome | str:
        """What came of the part, or the end of a process that died or hangs, in words."""
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
        """Kill it, whatever it does."""
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
