"""Suites of one's own: a TOML file with the fields of `Suite`, checked with the line of what is wrong."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..common.errors import UserError
from ..common.files import read_text
from ..common.names import unknown
from ..execution.trial.task import Observation
from ..kernels.catalog import KERNELS
from ..kernels.problem import InvalidProblem, Problem
from ..kernels.problem.trace import with_digest
from .competitors import CompetitorRule, Group
from .layer import BATCH, MODELS_OWN, Layer
from .suite import SUITES, Suite, SuiteForm, SuitePoint, Sweep

SUFFIX: Final = ".toml"
PATTERN: Final = "*.suite.toml"
"""The files of the working folder that `moebench list suites` shows."""
FieldPath = tuple[str | int, ...]


class SuiteFileError(UserError, ValueError):
    """A file is no suite; the message has the file, the line, the field, its value and the remedy."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Competitors(_Part):
    groups: list[Group]
    leave_out: dict[str, str] = Field(default_factory=dict)


class _Place(_Part):
    series: Annotated[str, Field(min_length=1)]
    x: Annotated[float, Field(allow_inf_nan=False)] | Annotated[str, Field(min_length=1)] | None = None
    model: str | None = None
    problem: dict[str, Any] = Field(default_factory=dict)
    competitors: _Competitors | None = None
    config: dict[str, Any] | None = None


class _Form(_Part):
    baseline: str
    competitors: _Competitors
    places: Annotated[list[_Place], Field(min_length=1)]
    asks: list[Observation] = Field(default_factory=list)


class _SuiteFile(_Part):
    question: Annotated[str, Field(min_length=1)]
    axis: Annotated[str, Field(min_length=1)]
    small: _Form | None = None
    full: _Form | None = None
    reduced: _Form | None = None
    beyond: list[Annotated[int, Field(ge=1)]] = Field(default_factory=list)


def suite_named(word: str) -> tuple[str, Suite]:
    """Return the suite of a name, or that of a TOML file, which is named as the file is.

    Raises:
        UnknownName: when no suite has that name.
        SuiteFileError: when the file cannot be read, or is no suite.
    """
    if not word.endswith(SUFFIX):
        return word, SUITES.load(word)
    path = Path(word)
    name = path.name.partition(".")[0]
    if not name:
        raise SuiteFileError(f"{path}: a suite has the name of its file before the first dot: rename the file")
    if name in SUITES.names():
        raise SuiteFileError(f"{path}: {name} is the name of a suite of moebench: rename the file")
    return name, read(path)


def read(path: Path) -> Suite:
    """Return the suite that a file describes.

    Raises:
        SuiteFileError: naming the file, the line, the field, its value and the remedy.
        NotUtf8: when the text is in another encoding.
    """
    try:
        text = read_text(path)
    except OSError as error:
        raise SuiteFileError(f"{path}: {error.strerror}: give the TOML file of a suite") from error
    return _Reader(path, text).suite()


@dataclass(frozen=True)
class _Reader:
    path: Path
    text: str

    def suite(self) -> Suite:
        try:
            found = _SuiteFile.model_validate(tomllib.loads(self.text))
        except tomllib.TOMLDecodeError as error:
            raise SuiteFileError(f"{self._syntax(str(error))}: write it as TOML") from error
        except ValidationError as error:
            raise self._invalid(error) from error
        except (ValueError, RecursionError) as error:  # numbers of thousands of digits, lists in thousands of lists
            raise SuiteFileError(f"{self.path}: a value is too long or too deep: give a shorter one") from error
        given = {"small": found.small, "full": found.full, "reduced": found.reduced}
        forms = {size: self._form(size, form) for size, form in given.items() if form}
        small, full = forms.get("small") or forms.get("full"), forms.get("full") or forms.get("small")
        if small is None or full is None:
            raise self._error((), "the file has neither small nor full: give a table [small] with baseline and places")
        return Suite(
            question=found.question,
            axis=found.axis,
            small=small,
            full=full,
            reduced=forms.get("reduced"),
            beyond=tuple(found.beyond),
        )

    def _form(self, size: str, form: _Form) -> SuiteForm:
        self._kernel((size, "baseline"), form.baseline)
        return SuiteForm(
            baseline=form.baseline,
            competitors=self._rule((size, "competitors"), form.competitors),
            sweeps=tuple(self._sweep((size, "places", index), place) for index, place in enumerate(form.places)),
            asks=tuple(form.asks),
        )

    def _rule(self, at: FieldPath, rule: _Competitors) -> CompetitorRule:
        for name in rule.leave_out:
            self._kernel((*at, "leave_out", name), name)
        return CompetitorRule(groups=tuple(rule.groups), leave_out=rule.leave_out)

    def _kernel(self, at: FieldPath, name: str) -> None:
        if name not in KERNELS.names():
            raise self._error(at, str(unknown("kernel", name, KERNELS.names())))

    def _sweep(self, at: FieldPath, place: _Place) -> Sweep:
        """Return the points of a place: one, or one for each value of the field that is a list."""
        given, inside = dict(place.problem), (*at, "problem")
        width = given.pop("width", None)
        if width is not None and (not isinstance(width, int) or isinstance(width, bool) or width < 1):
            raise self._error((*inside, "width"), f"width = {width!r}: give a positive integer")
        for name in given:
            if name not in _FIELDS:
                raise self._error((*inside, name), str(unknown("field", name, [*_FIELDS, "width"])))
        for name, value in (place.config or {}).items():
            # What else TOML has, a list, a table, a date or a nan, is no value of an axis and has no hash or no equal.
            if not isinstance(value, str | int | float) or (isinstance(value, float) and not math.isfinite(value)):
                raise self._error((*at, "config", name), f"{name} = {value!r}: give one number, text, true or false")
        swept = self._swept(at, place, given)
        values = tuple(given.pop(swept)) if swept else (None,)
        point = partial(
            _point,
            series=place.series,
            x=place.x,
            swept=swept,
            competitors=self._rule((*at, "competitors"), place.competitors) if place.competitors else None,
            config=place.config,
        )
        try:
            layer = self._layer(place, given | ({swept: values[0]} if swept else {}), width, swept)
            sweep = Sweep(layer=layer, point=point, values=values)
            if empty := [one.problem for one in sweep.places() if one.problem.T == 0]:
                raise InvalidProblem(f"T = {empty[0].T}: give at least one token")
        except UserError as error:
            raise self._error(self._field_of(at, place, str(error)), str(error)) from error
        return sweep

    def _swept(self, at: FieldPath, place: _Place, given: Mapping[str, object]) -> str | None:
        """Return the field of a problem that is a list, None if there is none."""
        lists = [name for name, value in given.items() if isinstance(value, list)]
        if len(lists) > 1:
            both = f"{lists[0]} and {lists[1]} are lists"
            raise self._error((*at, "problem", lists[1]), f"{both}: give one of them, and more places")
        if not lists:
            if place.x is None:
                remedy = "give the place on the axis, or a list for one field of problem"
                raise self._error((*at, "x"), f"x is missing: {remedy}")
            return None
        (name,) = lists
        if place.x is not None:
            raise self._error((*at, "x"), f"x = {place.x!r}: leave it out, as each value of {name} is one")
        if not given[name]:
            raise self._error((*at, "problem", name), f"{name} = []: give at least one value")
        return name

    def _layer(self, place: _Place, given: dict[str, Any], width: int | None, swept: str | None) -> Layer:
        missing = [name for name in ("T", *(() if place.model else "DFEK")) if name not in given]
        if missing:
            remedy = f"give {'it' if len(missing) == 1 else 'them'}{', or a model' if missing != ['T'] else ''}"
            raise InvalidProblem(f"problem has no {', '.join(missing)}: {remedy}")
        if "load" in given:
            given["load"] = with_digest(str(given["load"]), self.path.parent)
        if place.model is None:
            layer = Layer(name=place.series, problem=Problem(**given))
        else:
            layer = self._layer_of(place.model, given, swept)
        try:
            return layer if width is None else layer.scaled(width)
        except InvalidProblem as error:
            raise InvalidProblem(f"width = {width}: {error}") from error

    def _layer_of(self, model: str, given: dict[str, Any], swept: str | None) -> Layer:
        """Return the layer of a model, used as ``given``; a sweep may leave its shape, a single place may not."""
        file = self.path.parent / model if model.endswith(".json") else None
        if whole := given.get("block") == MODELS_OWN:
            given = {name: value for name, value in given.items() if name != "block"}
        own = Layer.configured(file, whole=whole) if file else Layer.of(model, T=1, whole=whole)
        for name in "DFEK":
            value, of_model = given.get(name), getattr(own.problem, name)
            if name != swept and value not in (None, of_model):
                raise InvalidProblem(f"{name} = {value!r}: {of_model} in {model}: leave out one of the two")
        return Layer.configured(file, whole=whole, **given) if file else Layer.of(model, whole=whole, **given)

    def _field_of(self, at: FieldPath, place: _Place, message: str) -> FieldPath:
        """Return the field that a message is about: the one that it begins with, the model that it quotes, or all."""
        name = re.match(r"\w*", message)
        if name and name[0] in place.problem:
            return (*at, "problem", name[0])
        return (*at, "model") if place.model and place.model in message else (*at, "problem")

    def _invalid(self, error: ValidationError) -> SuiteFileError:
        """Return the error of the first field that is wrong, of unknown ones before missing ones."""
        first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
        at = tuple(part for part in first["loc"] if part not in _NOT_IN_FILES)
        if first["type"] == "extra_forbidden":
            return self._error(at, str(unknown("field", str(at[-1]), _names_at(at[:-1]))))
        if first["type"] == "missing":
            return self._error(at, f"{at[-1]} is missing: give it; the fields are {', '.join(_names_at(at[:-1]))}")
        remedy = _REMEDIES.get(first["type"]) or re.sub(r"^\w+ should (be|have)", "give", first["msg"])
        name = _dotted(at[-2:] if isinstance(at[-1], int) else at[-1:])
        return self._error(at, f"{name} = {first['input']!r}: {remedy}")

    def _error(self, at: FieldPath, message: str) -> SuiteFileError:
        """Return the error at a field, or at the nearest table around it that the file has."""
        places = (self._line(at[:length]) for length in range(len(at), 0, -1))
        line = next((found for found in places if found is not None), 1)
        around = f"{_dotted(at[:-1])}: " if len(at) > 1 else ""
        return SuiteFileError(f"{self.path}:{line}: {around}{message}")

    def _line(self, at: FieldPath) -> int | None:
        """Return the first line up to which the file has this field, None if it has none.

        TOML says all about a file that is cut at a line, once the lists that are open there are closed.
        """
        if not _has(tomllib.loads(self.text), at):
            return None
        lines = self.text.splitlines()
        for count in range(1, len(lines) + 1):
            for closing in ("", "]", "]]", "]]]"):
                try:
                    found = tomllib.loads("\n".join([*lines[:count], closing]))
                except tomllib.TOMLDecodeError:
                    continue
                if _has(found, at):
                    return count
                break
        return len(lines)

    def _syntax(self, message: str) -> str:
        """Return the parser's message as file:line: what."""
        found = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", message, re.DOTALL)
        what, line = (found[1], found[2]) if found else (message, None)
        return f"{self.path}:{line or len(self.text.splitlines())}: {what[0].lower()}{what[1:]}"


_REMEDIES: Final = {
    "model_type": "give a table",
    "dict_type": "give a table",
    "list_type": "give a list",
    "string_type": "give text",
    "float_type": "give a number or text",
    "finite_number": "give a finite number or text",
    "too_short": "give at least one",
    "string_too_short": "give some text",
}
"""By type of pydantic's error; the messages of others say it well."""
_NOT_IN_FILES: Final = ("[key]", "str", "float", "constrained-str")
"""Parts of the paths of pydantic that name no field."""
_FIELDS: Final = tuple(field.name for field in fields(Problem))


def _point(
    layer: Layer,
    value: object,
    *,
    series: str,
    x: float | str | None,
    swept: str | None,
    competitors: CompetitorRule | None,
    config: dict[str, Any] | None,
) -> SuitePoint:
    problem = layer.changed(**{swept: value}) if swept else layer.problem
    return SuitePoint(
        series=series,
        x=getattr(problem, swept) if swept else cast("float | str", x),
        problem=problem,
        model=layer.model if swept is None or swept in BATCH else None,
        competitors=competitors,
        config=config,
    )


def _has(found: object, at: Sequence[str | int]) -> bool:
    for part in at:
        try:
            found = found[part]  # type: ignore[index]  # what has no items raises, too
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _names_at(at: FieldPath) -> list[str]:
    """Return the names of the fields that a table of the file may have."""
    part: type[_Part] = _SuiteFile
    inside: dict[str | int, type[_Part]] = {"places": _Place, "competitors": _Competitors}
    for name in at:
        part = part if isinstance(name, int) else inside.get(name, _Form)
    return list(part.model_fields)


def _dotted(at: FieldPath) -> str:
    """Return a path as it is written: small.places[0].problem."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in at).removeprefix(".")
