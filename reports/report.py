"""Report: the answers that records give, computed once and written in any of the formats of ``formats``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from ..common.errors import UserError
from ..common.garbage import frozen_heap
from ..common.plugins import Catalog
from ..results.record import Record
from ..results.record.file_content import FileContent, refuse_to_replace
from ..results.record.prediction import Prediction
from ..results.record.reproduction import Reproduction
from .numbers import plain
from .plots.drawing import Drawing
from .plots.palette import Style, styles
from .section import RecordedMachine, Section, machines, sections


@dataclass(frozen=True)
class Report:
    """The records of one report, and their sections.

    ``problems`` are sentences about what could not be read, which a page shows at its top. ``predictions`` are drawn
    beside the records of the same line. ``price`` is that of a device-hour, in any currency. ``known_kernels`` are the
    implementations that there are, None where that is not known; ``reproduction`` returns the commands that measure the
    records of a section again. Sections, with the intervals of all medians, and drawings are made when they are first
    asked for, and once, whatever number of formats is written.
    """

    records: Sequence[Record]
    problems: Sequence[str] = ()
    predictions: Sequence[Prediction] = ()
    price: float | None = None
    known_kernels: Collection[str] | None = None
    reproduction: Callable[[Sequence[Record]], Reproduction] | None = None

    @cached_property
    def machines(self) -> list[RecordedMachine]:
        return machines(self.records)

    @cached_property
    def sections(self) -> list[Section]:
        return sections(self.records, self.predictions, self.price)

    @cached_property
    def styles(self) -> dict[str, Style]:
        """Return the style of every kernel that is drawn."""
        return styles(plain(record.kernel) for section in self.sections for record in section.records if record.timing)

    @cached_property
    def drawings(self) -> list[Future[list[Drawing]]]:
        """Begin to draw all sections, and return the drawings of each, which may be still to come."""
        from .plots.parallel_drawing import begin_drawings  # noqa: PLC0415  # brings matplotlib, which few formats need

        return begin_drawings(self.sections, self.styles)

    def write(self, path: Path, name: str | None = None) -> Path:
        """Write the report in the format of that name, by default in the one of the path's suffix; return the path.

        Missing folders are made.

        Raises:
            UnknownName: when no format has that name.
            ReportError: when no format has the suffix, the file cannot be written, or a process that draws is killed.
            WouldOverwrite: when the file holds records or predictions.
            Unusable: when a package that the format needs is missing or broken.
        """
        form = FORMATS.load(name) if name else format_of(path)
        refuse_to_replace(path, FileContent.other)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with frozen_heap():  # the records
                form.write(self, path)
        except OSError as error:
            raise ReportError(f"{path}: {error.strerror}; give an --output that can be written") from error
        except BrokenProcessPool as error:
            raise ReportError(
                f"{path}: a process that drew plots was killed, as happens for want of memory; make room, or report "
                "fewer files at once"
            ) from error
        return path


class ReportError(UserError):
    """A report that cannot be written; the message says why, and the remedy."""


@dataclass(frozen=True)
class ReportFormat:
    """A format of reports: the suffix of its files, and the function that writes one.

    It is the attribute ``report_format`` of its module, and has the name of its module.
    """

    suffix: str
    write: Callable[[Report, Path], None]


FORMATS: Final[Catalog[ReportFormat]] = Catalog("format", f"{__package__}.formats", "report_format")


def format_of(path: Path) -> ReportFormat:
    """Return the format with the longest suffix that the name of a file ends in.

    Raises:
        ReportError: when no format has the suffix.
    """
    known = sorted((FORMATS.load(name) for name in FORMATS.names()), key=lambda form: len(form.suffix))
    fitting = [form for form in known if path.name.endswith(form.suffix)]
    if not fitting:
        *others, last = (form.suffix for form in known)
        raise ReportError(f"{path}: give a name that ends in {', '.join(others)} or {last}")
    return fitting[-1]
