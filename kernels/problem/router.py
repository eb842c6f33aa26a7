"""The interface of a router: one small class in one file of ``kernels/problem/routers/``, with typed parameters."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from ...common.names import unknown
from ...common.plugins import Catalog

if TYPE_CHECKING:
    from torch import Tensor

    from .problem import Problem

Number = TypeVar("Number", int, float)
BOOLEANS = {"false": False, "true": True}


def parameter(default: Number, *, least: Number, most: Number) -> Number:
    """Declare a parameter of a router: a dataclass field with its default and its range, both ends included."""
    return dataclasses.field(default=default, metadata={"least": least, "most": most})


@dataclass(frozen=True)
class Router(ABC):
    """The rule by which tokens choose experts. Its name is the name of its file; the file's ``router`` is its class.

    Its parameters are dataclass fields that have defaults: ``int`` and ``float`` by `parameter`, or a plain ``bool``.
    """

    @classmethod
    def name(cls) -> str:
        """Return the name of its file."""
        return cls.__module__.rpartition(".")[2]

    @abstractmethod
    def route(self, logits_TE: Tensor, K: int) -> tuple[Tensor, Tensor]:
        """Choose K distinct experts for every token, its first choice first, and weight them.

        Returns ids int32 (T, K) and gates float32 (T, K), differentiable in the logits, which may have any floating
        dtype. An expert whose logit is −inf is never chosen while K others are left; of equal experts the lower index
        comes first.
        """

    def refuses(self, problem: Problem) -> str | None:
        """Return None, or why it cannot route this problem, naming the constraint, the value and the remedy."""
        return None

    @property
    def follows_load(self) -> bool:
        """True if the chosen experts are those of the K largest logits, as `popularity` assumes."""
        return True

    def for_fewer_experts(self) -> Router:
        """Return the router for a part of the experts: without a limit that depends on how many there are."""
        return self

    @classmethod
    def form(cls) -> str:
        """Return how its text may look, each parameter with its default: ``name:parameter=default,...``."""
        return _text(cls.name(), cls._defaults().items())

    @property
    def spec(self) -> str:
        """The canonical text: parameters in the order of their fields, those at their defaults left out."""
        defaults = self._defaults()
        return _text(self.name(), ((key, value) for key in defaults if (value := getattr(self, key)) != defaults[key]))

    @staticmethod
    def parse(spec: str) -> Router:
        """Read a text such as ``softmax_topk`` or ``sigmoid_topk:groups=8,top_groups=4,scale=2.5``.

        Raises:
            ValueError: naming the text, what is wrong with it, and what it may be.
        """
        return _parsed(str(spec))

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        return {field.name: field.default for field in dataclasses.fields(cls)}


ROUTERS: Catalog[type[Router]] = Catalog("router", f"{__package__}.routers", "router")


@lru_cache  # every problem that is made parses its router
def _parsed(spec: str) -> Router:
    name, _, text = spec.partition(":")
    try:
        kind = ROUTERS.load(name)
    except ValueError as error:
        raise ValueError(f"router = {spec!r}: {error}; give one of {', '.join(ROUTERS.names())}") from error
    try:
        return kind(**dict(_parameters(kind, text)))
    except ValueError as error:
        raise ValueError(f"router = {spec!r}: {error}; its form is {kind.form()}") from error


def _parameters(kind: type[Router], text: str) -> Iterator[tuple[str, int | float | bool]]:
    fields = {field.name: field for field in dataclasses.fields(kind)}
    read: set[str] = set()
    for part in text.split(",") if text else []:
        name, _, value = part.partition("=")
        if not fields:
            raise ValueError(f"no parameter of {kind.name()} is named {name!r}: it has none")
        if name not in fields:
            raise unknown(f"parameter of {kind.name()}", name, list(fields))
        if name in read:
            raise ValueError(f"{name} is given twice")
        read.add(name)
        yield name, _value(fields[name], value)


def _value(field: dataclasses.Field[Any], text: str) -> int | float | bool:
    """Read a value of the type of the field's default."""
    if isinstance(field.default, bool):
        if text not in BOOLEANS:
            raise ValueError(f"{field.name} = {text!r}: give one of {', '.join(BOOLEANS)}")
        return BOOLEANS[text]
    least, most = field.metadata["least"], field.metadata["most"]
    kind, noun = (int, "an integer") if isinstance(field.default, int) else (float, "a number")
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not least <= value <= most:
        raise ValueError(f"{field.name} = {text!r}: give {noun} from {least:g} to {most:g}")
    return value


def _text(name: str, parameters: Any) -> str:
    words = [f"{key}={_word(value)}" for key, value in parameters]
    return f"{name}:{','.join(words)}" if words else name


def _word(value: int | float | bool) -> str:
    """Write a value so that it reads back as itself, a whole number without a fraction."""
    return str(value).lower() if isinstance(value, bool) else repr(value).removesuffix(".0")
