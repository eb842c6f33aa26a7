"""The options that describe a problem: one set of words, which every verb takes that has to do with a layer.

A verb has a parameter ``words``, in place of which `problem_options` gives it the options.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict, get_type_hints

import typer

from ..common.counts import count
from .errors import refuse

if TYPE_CHECKING:
    from ..kernels.problem import Problem
    from ..suites.layer import Asked, Layer


class OneForward(TypedDict):
    """Values of words for one forward of a layer as it is."""

    mode: str
    capacity: str
    load: str


OLD_SPELLINGS = {"capacity-factor": "capacity", "tokens-per-rank": "tokens"}
"""Options of earlier releases and what they are called now, without dashes."""

HELP: dict[str, tuple[tuple[str, ...], str, str]] = {
    "model": (("--model", "-m"), "NAME", "Model that the layer is of; `moebench list models` shows them."),
    "config": (("--config",), "FILE", "The config.json of a Hugging Face MoE model that the layer is of."),
    "shape": (("--shape",), "D=…,F=…,E=…,K=…", "The layer's own shape."),
    "width": (("--width",), "D", "Scale the layer to the largest width up to this, at its ratio of F to D."),
    "tokens": (("--tokens", "-T"), "T", "Batch size: tokens of all ranks together, in `predict` of each rank."),
    "dtype": (("--dtype",), "NAME", "Element type: float32, float16, bfloat16 or float8_e4m3fn."),
    "mode": (("--mode",), "NAME", "One call is a forward or a training step: forward or train."),
    "capacity": (("--capacity",), "FACTOR", "Capacity factor, or dropless."),
    "capacity_rule": (("--capacity-rule",), "NAME", "Rounding of the capacity: ceil, floor, gshard, tutel or vmoe."),
    "drop": (("--drop",), "NAME", "Rows that a full expert keeps: first_come, first_choices or gate_weight."),
    "load": (
        ("--load",),
        "LOAD",
        "Load of the experts: uniform, zipf:S, dirichlet:A, hot, empty:FRACTION, modalities:SHARE, text, or "
        "trace:FILE,layer=L, routes that `moebench trace record` wrote.",
    ),
    "ranks": (("--ranks",), "R", "Ranks that share the experts; A..B means powers of two."),
    "router": (("--router",), "NAME", "Router of `moebench list routers`, with its parameters."),
    "block": (
        ("--block",),
        "TEXT",
        "Block around the experts: one of `moebench list blocks`, with its parameters, or model for the model's own.",
    ),
}
"""By parameter: the option's spellings, what stands for its value, and its help."""
OF_LAYER = ("model", "config", "shape")
FIELDS = {
    "tokens": "T",
    "dtype": "dtype",
    "mode": "mode",
    "capacity": "capacity_factor",
    "capacity_rule": "capacity_rule",
    "drop": "drop",
    "load": "load",
    "ranks": "ranks",
    "router": "router",
    "block": "block",
}
"""The words that are fields of a problem."""
SEVERAL = ("tokens", "dtype", "mode", "capacity", "ranks")
"""The words that may have several values, with commas, where the verb takes several."""
LAYER_WORDS = "--model NAME, --config FILE or --shape D=…,F=…,E=…,K=…"
ONE_FORWARD: OneForward = {"mode": "forward", "capacity": "dropless", "load": "uniform"}
"""Defaults for verbs about one problem."""


def separated(option: typer.CallbackParam, words: list[str] | None) -> list[str]:
    """Return the names of an option that may be given again, or once with commas; refuse one without a name."""
    found = [name for word in words or () for name in _parts(word)]
    if words and not found:
        refuse(f"--{option.name} {','.join(words)!r}: give a name, or leave the option out")
    return found


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _parts(word: str) -> list[str]:
    return [part.strip() for part in word.split(",") if part.strip()]


@dataclass(frozen=True, kw_only=True)
class ProblemWords:
    """Words about a problem: those that name the layer, and the values of fields, as they were given.

    Of the words in ``many`` a verb takes several values, and of the layer if ``model`` is among them.
    """

    verb: str
    many: tuple[str, ...]
    model: tuple[str, ...] = ()
    config: Path | None = None
    shape: str | None = None
    width: str | None = None
    said: Mapping[str, str]

    def layers(self) -> tuple[Layer, ...]:
        """Return the layers that are named, scaled to the width; none if no word names one.

        Raises:
            UserError: when two words contradict each other, or one cannot be understood.
        """
        from ..kernels.problem import InvalidProblem
        from ..suites.layer import MODELS_OWN, Layer

        named = {"--model": ", ".join(self.model), "--config": self.config, "--shape": self.shape}
        given = [f"{option} {value}" for option, value in named.items() if value]
        if len(given) > 1:
            raise InvalidProblem(f"{' and '.join(given)} both name a layer: give one of the two")
        if len(self.model) > 1 and "model" not in self.many:
            raise InvalidProblem(f"--model {named['--model']}: {self.verb} takes one model")
        if self.width is not None and not given:
            raise InvalidProblem(f"--width {self.width} scales a layer: name one by {LAYER_WORDS}")
        whole = self.said.get("block") == MODELS_OWN
        if whole and not self.model and self.config is None:
            raise InvalidProblem(
                f"--block {MODELS_OWN} is the block of a model: name it by --model NAME or --config FILE"
            )
        layers = tuple(Layer.of(name, T=1, whole=whole) for name in self.model)
        if self.config is not None:
            layers = (Layer.configured(self.config, whole=whole),)
        if self.shape is not None:
            layers = (_of_shape(self.shape),)
        if self.width is None:
            return layers
        if (width := count(self.width)) is None:
            raise InvalidProblem(f"--width {self.width}: give a positive number")
        try:
            return tuple(layer.scaled(width) for layer in layers)
        except InvalidProblem as error:
            raise InvalidProblem(f"--width {self.width}: {error}") from error

    def fields(self) -> dict[str, tuple[object, ...]]:
        """Return the values of each field of a problem that was said.

        Raises:
            InvalidProblem: naming the option, the value and the remedy.
        """
        from ..kernels.problem import InvalidProblem
        from ..suites.layer import MODELS_OWN

        found = {}
        for name, text in self.said.items():
            if name == "block" and text == MODELS_OWN:
                continue  # each layer has its own
            values = _values(name, text)
            if len(values) > 1 and name not in self.many:
                raise InvalidProblem(f"--{_dashed(name)} {text}: {self.verb} takes one value: give one of them")
            found[FIELDS[name]] = values
        return found

    def asked(self) -> Asked:
        """Return what is asked of suites.

        Raises:
            UserError: as `layers` and `fields`.
        """
        from ..suites.layer import Asked

        return Asked(layers=self.layers(), fields=self.fields())

    def problems(self, **defaults: tuple[object, ...]) -> list[tuple[Layer, Problem]]:
        """Return every layer with every combination of the fields, those that were not said by default.

        Raises:
            UserError: as `layers` and `fields`, and when no layer is named.
        """
        from ..kernels.problem import InvalidProblem

        fields, layers = {**defaults, **self.fields()}, self.layers()
        if not layers:
            raise InvalidProblem(f"{self.verb} wants a layer: name one by {LAYER_WORDS}")
        return [
            (layer, layer.problem.replace(**dict(zip(fields, values, strict=True))))
            for layer in layers
            for values in itertools.product(*fields.values())
        ]

    def command_line(self) -> list[str]:
        """Return the words again, for a command in another folder.

        Raises:
            InvalidTrace: when a load is no trace.
        """
        from ..kernels.problem.trace import with_digest

        said = {**self.said, "load": with_digest(self.said["load"])} if "load" in self.said else self.said
        words = {"config": self.config and self.config.resolve(), "shape": self.shape, "width": self.width, **said}
        options = [*(("model", name) for name in self.model), *words.items()]
        return [word for name, value in options if value is not None for word in (f"--{_dashed(name)}", str(value))]

    def taken_out(self, name: str) -> tuple[tuple[Any, ...], ProblemWords]:
        """Return the values of one word, and the words without it.

        Raises:
            InvalidProblem: as `fields`.
        """
        rest = {other: text for other, text in self.said.items() if other != name}
        return self.fields()[FIELDS[name]], replace(self, said=rest)


def problem_options(
    *, many: tuple[str, ...] = (), without: tuple[str, ...] = (), otherwise: str = "the layer's", **defaults: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a verb the options of a problem in place of its parameter ``words``, a `ProblemWords`.

    ``many`` are the words of which it takes several values, ``without`` those that it does not take. ``defaults`` are
    its values of words that are not given; ``otherwise`` says what holds for the rest.
    """

    def give(verb: Callable[..., None]) -> Callable[..., None]:
        offered = [name for name in HELP if name not in without]
        options = {name: _option(name, many, defaults.get(name), otherwise) for name in offered}
        name = verb.__name__.strip("_")

        @functools.wraps(verb)
        def with_words(**given: Any) -> None:
            taken = {word: given.pop(word) for word in offered}
            given_or_default = {**defaults, **{word: text for word, text in taken.items() if text is not None}}
            said = {word: given_or_default[word] for word in FIELDS if word in given_or_default}
            words = ProblemWords(
                verb=name,
                many=many,
                model=tuple(taken["model"] or ()),
                config=taken["config"],
                shape=taken["shape"],
                width=taken["width"],
                said=said,
            )
            verb(words=words, **given)

        hints = get_type_hints(verb, include_extras=True)
        parameters: list[inspect.Parameter] = []
        for parameter in inspect.signature(verb).parameters.values():
            if parameter.name == "words":
                parameters += options.values()
            else:
                parameters.append(parameter.replace(annotation=hints[parameter.name]))
        by_keyword = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
        with_words.__signature__ = inspect.Signature(by_keyword)  # type: ignore[attr-defined]  # which typer reads
        with_words.__annotations__ = {parameter.name: parameter.annotation for parameter in by_keyword}
        return with_words

    return give


def _option(name: str, many: tuple[str, ...], default: str | None, otherwise: str) -> inspect.Parameter:
    spellings, value, text = HELP[name]
    kinds: dict[str, Any] = {"model": list[str] | None, "config": Path | None}
    shown: str | bool = default or otherwise
    if name in OF_LAYER:
        shown = False
    if name == "width":
        shown = "as it is"
    if name == "block":
        shown = "the suite's, or experts alone" if otherwise == "the suite's" else "experts alone"
    option = typer.Option(
        *spellings,
        metavar=f"{value},…" if name in many else value,
        help=text,
        show_default=shown,
        callback=separated if name == "model" else None,
    )
    kind = kinds.get(name, str | None)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option])


def _of_shape(text: str) -> Layer:
    from ..kernels.problem import InvalidProblem, Problem
    from ..suites.layer import Layer

    remedy = "give it as D=512,F=1792,E=8,K=2, each of the four once"
    parts = [part.partition("=") for part in text.split(",")]
    if sorted(name.strip() for name, _, _ in parts) != sorted("DFEK"):
        raise InvalidProblem(f"--shape {text}: {remedy}")
    sizes = {}
    for name, _, value in parts:
        if (size := count(value)) is None:
            raise InvalidProblem(f"--shape {text}: {name.strip()} = {value!r} is no positive number: {remedy}")
        sizes[name.strip()] = size
    problem = Problem(T=1, D=sizes["D"], F=sizes["F"], E=sizes["E"], K=sizes["K"])
    return Layer(name=", ".join(f"{name}={sizes[name]}" for name in "DFEK"), problem=problem)


def _values(name: str, text: str) -> tuple[object, ...]:
    """Return the values that a word says: numbers of tokens and ranks ascending, each once."""
    if name == "load":
        from ..kernels.problem.trace import with_digest

        return (with_digest(text),)
    if name not in SEVERAL:
        return (text,)
    if name == "tokens":
        return tuple(batch_sizes(text, "--tokens"))
    if name == "ranks":
        from ..suites.prediction.predict import rank_counts

        return tuple(rank_counts(text))
    read: Callable[[str], object] = _factor if name == "capacity" else str
    return tuple(dict.fromkeys(read(word) for word in _parts(text) or [""]))


def _factor(word: str) -> float | None:
    from ..kernels.problem import InvalidProblem

    if word == "dropless":
        return None
    try:
        factor = float(word)
    except ValueError:
        factor = math.nan
    if not 0 < factor < math.inf:
        raise InvalidProblem(f"--capacity {word}: give a positive number, or dropless")
    return factor


def batch_sizes(words: str, option: str) -> list[int]:
    """Return the batch sizes in a list with commas, ascending, each once.

    Raises:
        InvalidProblem: naming the option and what is no number.
    """
    from ..kernels.problem import InvalidProblem

    found = set()
    for word in _parts(words) or [words]:
        if (tokens := count(word)) is None:
            raise InvalidProblem(f"{option} {words}: {word!r} is no batch size; give numbers like 16,64,256")
        found.add(tokens)
    return sorted(found)
