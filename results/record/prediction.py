"""Predictions: the time that a call of a layer on a cluster should take. A file of them is never read as records.

This module imports neither torch nor a sibling folder: a report draws predictions beside records.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from ...common.files import utf8, write_whole
from .file_content import FileContent, content_of, refuse_to_replace
from .store import StoreError

SCHEMA: Final = 1


class _PredictionPart(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Share(_PredictionPart):
    """A part of the time of a call: its seconds if nothing hides it, and with equal shares on all ranks."""

    seconds: NonNegativeFloat
    balanced_s: NonNegativeFloat


class Sent(_PredictionPart):
    """Bytes that a rank sends in one call, on average: to itself, inside its node, across nodes."""

    itself: NonNegativeFloat
    node: NonNegativeFloat
    across: NonNegativeFloat


class Held(_PredictionPart):
    """Memory of the rank that needs most, in bytes, and how much a rank has."""

    weights: NonNegativeInt
    tokens: NonNegativeInt
    buffers: NonNegativeInt
    available: float

    @property
    def total(self) -> int:
        return self.weights + self.tokens + self.buffers

    @property
    def fits(self) -> bool:
        return self.total <= self.available


class Expected(_PredictionPart):
    """The expected time of one call: seconds until the slowest rank is done, and their parts.

    ``straggling`` is the share of them that equal shares of all ranks would save; ``hidden_s`` of the parts pass behind
    others; ``bound`` names the longest part.
    """

    seconds: NonNegativeFloat
    straggling: float
    hidden_s: NonNegativeFloat
    parts: dict[str, Share]
    bound: str
    sent: Sent
    messages: NonNegativeInt
    memory: Held


class Prediction(_PredictionPart):
    """One dispatcher on one cluster. ``series`` names the line of a plot, whose x is ``ranks``.

    ``group`` ranks share the experts, each of the others belongs to another such group; ``problem`` is that of one
    group. A dispatcher that cannot take the layout has a reason and nothing else.
    """

    kind: Literal["prediction"] = "prediction"
    schema_version: Literal[1]
    series: str
    machine: str
    ranks: PositiveInt
    ranks_per_node: PositiveInt
    group: PositiveInt
    key: str
    problem: dict[str, JsonValue]
    dispatcher: str
    wire: str
    chunks: PositiveInt
    reason: str = ""
    expected: Expected | None = None
    moebench: str
    time: str = Field(description="when the prediction was made, UTC, ISO 8601")

    @model_validator(mode="after")
    def _expected_or_reason(self) -> Prediction:
        if (self.expected is None) != bool(self.reason):
            raise ValueError("give what is expected, or a reason why nothing is")
        return self


def write(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write a file of predictions, a line of JSON each. Earlier predictions of that name are replaced.

    Raises:
        WouldOverwrite: when the file holds something else.
        StoreError: when it cannot be written.
    """
    refuse_to_replace(path, FileContent.predictions)
    lines = "".join(f"{one.model_dump_json(exclude_none=True)}\n" for one in predictions)
    try:
        write_whole(path, lines)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}; give an --output that can be written") from error


def holds_predictions(path: Path) -> bool:
    """Return whether a file begins as one of predictions does; False for a pipe, and what cannot be read."""
    return content_of(path) is FileContent.predictions


def read(path: Path) -> list[Prediction]:
    """Read the predictions of a file.

    Raises:
        StoreError: when it cannot be read, or has a line that is none; the message names it.
        NotUtf8: when its text is in another encoding.
    """
    try:
        lines = utf8(path.read_bytes(), path).splitlines()
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}; give a file that `moebench predict` wrote") from error
    try:
        return [Prediction.model_validate_json(line) for line in lines]
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise StoreError(
            f"{path} holds something else than predictions ({where}: {first['msg']}); give a file that"
            " `moebench predict` wrote"
        ) from error
