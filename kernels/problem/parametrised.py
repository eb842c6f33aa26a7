"""Plugins that a text names with parameters, ``name:parameter=value,...``: how they declare these and are read."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar, cast

from ...common.names import unknown
from ...common.plugins import Catalog

Number = TypeVar("Number", int, float)
Word = TypeVar("Word", bound=str)
Value = int | float | bool | str
BOOLEANS = {"false": False, "true": True}


def parameter(default: Number, *, least: Number, most: Number) -> Number:
    """Declare a parameter: a dataclass field with its default and its range, both ends included."""
    return dataclasses.field(default=default, metadata={"least": least, "most": most})


def choice(default: Word, *others: Word) -> Word:
    """Declare a parameter that is one of several words: a dataclass field with its default."""
    return dataclasses.field(default=default, metadata={"words": (default, *others)})


@dataclass(frozen=True)
class Parametrised:
    """A plugin that a text names; its parameters are its fields, all with defaults.

    They are ``int`` and ``float`` by `parameter`, a word by `choice`, or a plain ``bool``.
    """

    @classmethod
    def name(cls) -> str:
        """Return the name of its file."""
        return cls.__module__.rpartition(".")[2]

    @classmethod
    def form(cls) -> str:
        """Return how its text may look, each parameter with its default: ``name:parameter=default,...``."""
        return _text(cls.name(), cls._defaults().items())

    @property
    def spec(self) -> str:
        """The canonical text: parameters in the order of their fields, those at their defaults left out."""
        defaults = self._defaults()
        return _text(self.name(), ((key, value) for key in defaults if (value := getattr(self, key)) != defaults[key]))

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        return {field.name: field.default for field in dataclasses.fields(cls)}


Kind = TypeVar("Kind", bound=Parametrised)


def read_plugin(catalog: Catalog[type[Kind]], spec: str) -> Kind:
    """Return the plugin of a catalog that a text names, with the parameters that it gives.

    Raises:
        ValueError: naming the text, what is wrong with it, and what it may be.
    """
    return cast(Kind, _read(catalog, spec))


@lru_cache(maxsize=256)  # every problem that is made reads its router and its block
def _read(catalog: Catalog[type[Parametrised]], spec: str) -> Parametrised:
    name, _, text = spec.partition(":")
    try:
        kind = catalog.load(name)
    except ValueError as error:
        shown = f"`moebench list {catalog.kind}s` shows all"
        raise ValueError(f"{catalog.kind} = {spec!r}: {error}; {shown}") from error
    try:
        return kind(**dict(_parameters(kind, text)))
    except ValueError as error:
        raise ValueError(f"{catalog.kind} = {spec!r}: {error}; its form is {kind.form()}") from error


def _parameters(kind: type[Parametrised], text: str) -> Iterator[tuple[str, Value]]:
    """Yield the parameters in a text ``parameter=value,...``, each of the type of its field."""
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


def _value(field: dataclasses.Field[Any], text: str) -> Value:
    """Read a value of the type of the field's default."""
    if words := field.metadata.get("words"):
        if text not in words:
            raise ValueError(f"{field.name} = {text!r}: give one of {', '.join(words)}")
        return text
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
        raise ValueError(f"{field.name} = {text!r}: give {noun} from {_word(least)} to {_word(most)}")
    return value


def _text(name: str, parameters: Iterable[tuple[str, Value]]) -> str:
    words = [f"{key}={_word(value)}" for key, value in parameters]
    return f"{name}:{','.join(words)}" if words else name


def _word(value: Value) -> str:
    """Write a value so that it reads back as itself, a whole number without a fraction."""
    if isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else repr(value).removesuffix(".0")
