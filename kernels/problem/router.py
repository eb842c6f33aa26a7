"""The interface of a router: one small class in one file of ``kernels/problem/routers/``, with typed parameters.

A router makes ids and gate weights of what it sees of its tokens: logits by default, the product of the tokens with
its weight (E, D). Loads give logits that were not computed of any tokens, so that every router can be put under every
load.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from ...common.names import unknown
from ...common.plugins import Catalog

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from .problem import Problem

Number = TypeVar("Number", int, float)
Word = TypeVar("Word", bound=str)
Value = int | float | bool | str
BOOLEANS = {"false": False, "true": True}


def parameter(default: Number, *, least: Number, most: Number) -> Number:
    """Declare a parameter of a router: a dataclass field with its default and its range, both ends included."""
    return dataclasses.field(default=default, metadata={"least": least, "most": most})


def choice(default: Word, *others: Word) -> Word:
    """Declare a parameter of a router that is one of several words: a dataclass field with its default."""
    return dataclasses.field(default=default, metadata={"words": (default, *others)})


@dataclass(frozen=True, kw_only=True)
class RouterInputs:
    """Inputs of a router: T tokens as it sees them, all on one device.

    ``logits_TE`` have any floating dtype, and a column for every expert, then for every extra column of the router
    (`Router.extra_columns`). ``token_T`` are ids of a vocabulary, int64, for routers that read them. ``bias_E`` float32
    are selection biases, ``noise_TE`` raw scales of noise; where they are None a router has its own, as its file says.
    Random numbers come from ``generator``, by default that of the device.
    """

    logits_TE: Tensor
    token_T: Tensor | None = None
    bias_E: Tensor | None = None
    noise_TE: Tensor | None = None
    generator: Generator | None = None

    def tokens(self) -> Tensor:
        """Return the ids of the tokens, int64 (T,).

        Raises:
            ValueError: when there are none.
        """
        if self.token_T is None:
            raise ValueError("the router chooses by token ids: give them as token_T")
        return self.token_T


@dataclass(frozen=True)
class Parametrised:
    """A plugin that a text names, ``name:parameter=value,...``; its parameters are its fields, all with defaults."""

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


@dataclass(frozen=True)
class Router(Parametrised, ABC):
    """The rule by which tokens choose experts. Its name is the name of its file; the file's ``router`` is its class.

    Its parameters are dataclass fields that have defaults: ``int`` and ``float`` by `parameter`, a word by `choice`, or
    a plain ``bool``.

    ``of_batch`` says that the choices of a token depend on the other tokens: such a router takes no recorded load.
    ``leaves_out`` says that tokens may have different numbers of routes, so that some routes are absent.
    ``reads_token_ids`` says that it needs `RouterInputs.token_T`. ``frozen`` names its parameters that are never
    trained.
    """

    of_batch: ClassVar[bool] = False
    reads_token_ids: ClassVar[bool] = False
    frozen: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def route(self, inputs: RouterInputs, K: int) -> tuple[Tensor, Tensor]:
        """Choose experts for every token, its first choice first, and weight them.

        Returns ids int32 (T, W) and gates float32 (T, W), differentiable in the logits. W is K, or, where a token may
        have more or fewer routes, as many as the token with the most has, at least one. An id of −1 is no route; an id
        of E or more is an extra column's. No token has an expert twice. An expert whose logit is −inf is never chosen
        while others are left; of equal experts the lower index comes first.
        """

    def probabilities(self, logits_TE: Tensor) -> Tensor:
        """Return the share of each expert in each token's scores, float32 (T, E), as balance losses use it."""
        return logits_TE.float().softmax(-1)

    def shapes(self, *, D: int, E: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of its parameters by name, for tokens of width D."""
        return {"weight": (E + self.extra_columns, D)}

    def project(self, x_TD: Tensor, parameters: Mapping[str, Tensor], *, E: int) -> RouterInputs:
        """Return the inputs of `route` for tokens (T, D) and so many experts, in float32."""
        return RouterInputs(logits_TE=x_TD.float() @ parameters["weight"].float().mT)

    def refuses(self, problem: Problem) -> str | None:
        """Return None, or why it cannot route this problem, naming the constraint, the value and the remedy."""
        return None

    @property
    def extra_columns(self) -> int:
        """Number of logits beyond those of the experts, of choices that cost nothing."""
        return 0

    @property
    def leaves_out(self) -> bool:
        """True if tokens may have different numbers of routes."""
        return False

    @property
    def follows_load(self) -> bool:
        """True if the chosen experts are those of the K largest logits, as `popularity` assumes."""
        return True

    def for_fewer_experts(self) -> Router:
        """Return the router for a part of the experts, whose routes exist already: it limits and leaves out nothing."""
        return Router.parse("softmax_topk") if self.of_batch or self.leaves_out else self

    @staticmethod
    def parse(spec: str) -> Router:
        """Read a text such as ``softmax_topk`` or ``sigmoid_topk:groups=8,top_groups=4,scale=2.5``.

        Raises:
            ValueError: naming the text, what is wrong with it, and what it may be.
        """
        return _parsed(str(spec))


ROUTERS: Catalog[type[Router]] = Catalog("router", f"{__package__}.routers", "router")


@lru_cache  # every problem that is made parses its router
def _parsed(spec: str) -> Router:
    name, _, text = spec.partition(":")
    try:
        kind = ROUTERS.load(name)
    except ValueError as error:
        raise ValueError(f"router = {spec!r}: {error}; `moebench list routers` shows all") from error
    try:
        return kind(**dict(parameters_of(kind, text)))
    except ValueError as error:
        raise ValueError(f"router = {spec!r}: {error}; its form is {kind.form()}") from error


def parameters_of(kind: type[Parametrised], text: str) -> Iterator[tuple[str, Value]]:
    """Yield the parameters in a text ``parameter=value,...`` of a dataclass, each of the type of its field.

    Raises:
        ValueError: naming the parameter and what is wrong with it.
    """
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
        raise ValueError(f"{field.name} = {text!r}: give {noun} from {least:g} to {most:g}")
    return value


def _text(name: str, parameters: Iterable[tuple[str, Value]]) -> str:
    words = [f"{key}={_word(value)}" for key, value in parameters]
    return f"{name}:{','.join(words)}" if words else name


def _word(value: Value) -> str:
    """Write a value so that it reads back as itself, a whole number without a fraction."""
    if isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else repr(value).removesuffix(".0")
