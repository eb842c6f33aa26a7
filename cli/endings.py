"""How a command ends when it is stopped, when nobody reads its output, and when moebench has a bug."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import typer
from typer.core import TyperGroup

from .errors import COULD_NOT
from .narrow_help import make_room
from .screen import broken, complain, width_of

BUG: Final = 70  # EX_SOFTWARE of sysexits.h
UsageError: Final[Any] = typer.BadParameter.__base__  # typer has no public name for it
OUTPUT_CLOSED: Final = 128 + signal.SIGPIPE  # as a shell reports a program that SIGPIPE ended


class EndingGroup(TyperGroup):
    """The verbs of `moebench`; a verb whose output is closed early ends without a message."""

    def make_context(self, info_name: Any, args: Any, parent: Any = None, **extra: Any) -> Any:
        """Lay the help out for the terminal; contexts of the verbs take the settings over."""
        return super().make_context(info_name, args, parent, **make_room(self) | extra)

    def invoke(self, ctx: Any) -> Any:  # typer has no public name for the type of a context
        """Run the verb and write all of its output.

        Raises:
            Exit: with OUTPUT_CLOSED when the reader of the output has gone, with COULD_NOT when it cannot be written.
        """
        try:
            answer = super().invoke(ctx)
            sys.stdout.flush()
        except UsageError as error:
            if type(error).__name__ == "NoArgsIsHelpError":  # a group without a verb: its message is the help
                raise
            message = error.format_message().replace("Value error, ", "")  # pydantic's own word
            message = broken(f"Error: {message}", width_of(sys.stderr)).removeprefix("Error: ")
            raise UsageError(message, ctx=error.ctx) from error
        except BrokenPipeError:
            _drop_output()
            raise typer.Exit(OUTPUT_CLOSED) from None
        except OSError as error:
            _drop_output()
            complain(error)
            raise typer.Exit(COULD_NOT) from error
        return answer


def end_as_by_ctrl_c() -> None:
    """Let SIGTERM and SIGHUP end a command as Ctrl-C does, records kept; `nohup` keeps its meaning.

    Characters that the terminal's encoding lacks are replaced.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


@contextmanager
def reporting_bugs() -> Iterator[None]:
    """Turn an unexpected error into one line and exit code BUG; the traceback goes to a file that the line names."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  # whatever was not expected
        import tempfile
        import traceback

        with tempfile.NamedTemporaryFile("w", prefix="moebench-bug-", suffix=".txt", delete=False) as file:
            traceback.print_exc(file=file)
        kind = type(error).__name__
        sys.stderr.write(f"moebench: this is a bug: {kind}: {error}; please report it with {Path(file.name)}\n")
        sys.exit(BUG)


def _drop_output() -> None:
    """Send what is still in the buffer of the output nowhere: Python writes it once more when it ends."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
