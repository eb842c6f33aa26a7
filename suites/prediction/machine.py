"""Machine descriptions: rates of ranks and of the links between them, each figure with its source. Read from TOML."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from ...common.errors import UserError
from ...common.files import read_text
from ...common.names import unknown
from ...kernels.problem import DType

SUFFIX = ".toml"

Network = Literal["node", "across"]
"""The other end of a message: another rank of the same node, or a rank of another node."""
LinkClass = Literal["self", "node", "across"]
"""The same, or the rank itself, which uses no network."""


class InvalidMachine(UserError, ValueError):
    """A file that does not describe a machine. The message names the file, the key and the remedy."""


class _MachinePart(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(_MachinePart):
    """A number and its source."""

    value: float = Field(ge=0, allow_inf_nan=False)
    source: str = Field(min_length=1)


def _positive(figure: Figure) -> Figure:
    if figure.value == 0:
        raise ValueError("value: give a positive number")
    return figure


def _share(figure: Figure) -> Figure:
    if figure.value > 1:
        raise ValueError("value: give a share, at most 1")
    return figure


Positive = Annotated[Figure, AfterValidator(_positive)]
Share = Annotated[Figure, AfterValidator(_share)]
Reached = Annotated[Positive, AfterValidator(_share)]


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Units per second of one rank, and of all ranks of a node together where they share the resource."""

    rank: float
    node: float = math.inf


class _Shared(_MachinePart):
    """A resource with a peak for a rank, and for a node whose ranks share it; ``reached`` is the practical share."""

    reached: Reached

    def _rate(self, rank: Figure, node: Figure | None) -> Rate:
        share = self.reached.value
        return Rate(rank=share * rank.value, node=math.inf if node is None else share * node.value)


class Link(_Shared):
    """The links of one class.

    An exchange with one peer takes ``latency_s`` before the first byte, and ``message_s`` for each further message
    that a rank sends in it. ``bytes_per_s`` are those of one rank in one direction, ``node_bytes_per_s`` those of all
    ranks of a node together: the egress of a node, or a memory bus. ``turns`` is the share of a message that a pair of
    ranks cannot send while it receives the other's: 1 where both directions of a pair wait for each other.
    """

    latency_s: Figure
    message_s: Figure
    bytes_per_s: Positive
    node_bytes_per_s: Positive | None = None
    turns: Share | None = None

    @property
    def rate(self) -> Rate:
        """Bytes/s in practice."""
        return self._rate(self.bytes_per_s, self.node_bytes_per_s)


class DeviceMemory(_Shared):
    """Memory of a rank: bytes it has, and bytes/s of a copy, read and write both counted."""

    bytes: Positive
    bytes_per_s: Positive
    node_bytes_per_s: Positive | None = None

    @property
    def rate(self) -> Rate:
        """Bytes/s in practice."""
        return self._rate(self.bytes_per_s, self.node_bytes_per_s)


class ProductRates(_Shared):
    """Rates of matrix products in one dtype: FLOP/s of a rank, and of all ranks of a node where they share cores."""

    flops_per_s: Positive
    node_flops_per_s: Positive | None = None

    @property
    def rate(self) -> Rate:
        """FLOP/s of grouped products in practice."""
        return self._rate(self.flops_per_s, self.node_flops_per_s)


class MachineDescription(_MachinePart):
    """A cluster of equal nodes of equal ranks. Links that the measured machine does not have are None.

    ``layer_s`` is the fixed overhead of one call of a layer.
    """

    name: str = Field(min_length=1)
    summary: str = Field(min_length=1)
    ranks_per_node: PositiveInt
    layer_s: Figure
    node: Link | None = None
    across: Link | None = None
    memory: DeviceMemory
    products: Mapping[DType, ProductRates] = Field(min_length=1)

    def link(self, link: Network) -> Link:
        """Return the links of a class.

        Raises:
            InvalidMachine: when the description has none.
        """
        described = self.node if link == "node" else self.across
        if described is None:
            others = "inside a node" if link == "node" else "across nodes"
            fewer = f"give at most {self.ranks_per_node} ranks" if link == "across" else "give fewer ranks"
            raise InvalidMachine(f"{self.name} has no links {others}: {fewer}, or measure with more")
        return described

    def product_rate(self, dtype: str) -> Rate:
        """Return the FLOP/s of grouped products in a dtype.

        Raises:
            InvalidMachine: naming the described dtypes.
        """
        for known, products in self.products.items():
            if known == dtype:
                return products.rate
        raise InvalidMachine(f"{self.name} has no products of {dtype}: give one of {', '.join(self.products)}")


def names() -> list[str]:
    """Return the names of the machines whose descriptions are part of the package."""
    folder = files(__package__) / "machines"
    return sorted(entry.name.removesuffix(SUFFIX) for entry in folder.iterdir() if entry.name.endswith(SUFFIX))


def machine(word: str) -> MachineDescription:
    """Return the machine of that name, or the one that a TOML file describes.

    Raises:
        UnknownName: for an unknown name, with the nearest valid ones.
        InvalidMachine: for a file that cannot be read or has an invalid value.
        NotUtf8: for a file in another encoding.
    """
    if word.endswith(SUFFIX):
        try:
            return _read(read_text(Path(word)), word)
        except OSError as error:
            raise InvalidMachine(f"{word}: {error.strerror}; give a file that `moebench calibrate` wrote") from error
    if word not in names():
        raise unknown("machine", word, names())
    return _read((files(__package__) / "machines" / f"{word}{SUFFIX}").read_text(encoding="utf-8"), word)


def _read(text: str, where: str) -> MachineDescription:
    try:
        return MachineDescription.model_validate(tomllib.loads(text))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InvalidMachine(f"{where}: {key}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:  # of tomllib, also for numbers of thousands of digits
        raise InvalidMachine(f"{where} is not TOML: {error}") from error


def to_toml(described: MachineDescription) -> str:
    """Return the text of a file that `machine` reads as the same description."""
    return "\n".join(_lines(described.model_dump(exclude_none=True), ())) + "\n"


def _lines(table: Mapping[str, object], path: tuple[str, ...]) -> list[str]:
    """Return the keys of a table, then its sub-tables; a figure is one line."""
    keys = [f"{key} = {_word(value)}" for key, value in table.items() if not _is_table(value)]
    lines = ["", f"[{'.'.join(path)}]", *keys] if path and keys else keys
    for key, value in table.items():
        if isinstance(value, Mapping) and _is_table(value):
            lines += _lines(value, (*path, key))
    return lines


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping) and "source" not in value


def _word(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_word(part)}" for key, part in value.items()) + " }"
    if isinstance(value, str):
        escaped = "".join(_escaped(letter) for letter in value)
        return f'"{escaped}"'
    return repr(value)


def _escaped(letter: str) -> str:
    """Return a letter of a basic string of TOML: quotes, backslashes and controls as code points."""
    return letter if letter.isprintable() and letter not in '"\\' else f"\\U{ord(letter):08X}"
