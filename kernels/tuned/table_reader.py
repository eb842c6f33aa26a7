"""Reader of tuned tables. It trusts nothing: a table may come from anywhere.

It is written by hand, without pydantic: layers look tables up, and a layer needs torch and Triton only.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from ..config import Config
from ..problem import Problem
from .tuned_table import FORMAT, SHAPE, VALIDITY, Bucket, InvalidTable, Origin, TableEntry, TunedTable

LARGEST = 1e18  # of any number: nanoseconds in thirty years
LEAST_NS = 1e-3  # of a time: no clock gives less, and a rate of less is no number
NEEDED = ("D", "F", "E", "K")  # fields of a shape that every table has had; the others have defaults
AGAIN = "derive it again with `moebench tables build RECORDS`"

Read = TypeVar("Read")


def parse_table(text: bytes | str) -> TunedTable:
    """Read what `TunedTable.text` wrote. A field of a shape that the table is older than has its default.

    Raises:
        InvalidTable: for anything else; the message names the field and its value.
    """
    try:
        table = _Value("the file", json.loads(text))
    except (ValueError, RecursionError) as error:
        raise InvalidTable(f"it is not JSON: {type(error).__name__}: {error}") from None
    version = table.fields().get("moebench_table", _Value("", None))
    if version.value != FORMAT:
        raise InvalidTable(f"moebench_table = {version}, this moebench reads {FORMAT}: {AGAIN}")
    first, last = table["measured"].list_of(_Value.word, length=2)
    return TunedTable(
        kernel=table["kernel"].word(),
        source=table["source"].word(),
        cache="hot" if table["cache"].value == "hot" else "cold",
        environment=_environment(table["environment"]),
        measured=(first, last),
        origins=tuple(table["records"].list_of(_origin)),
        entries=tuple(table["entries"].list_of(_entry)),
    )


@dataclass(frozen=True)
class _Value:
    """A value of a table, and the name that messages give it."""

    name: str
    value: object

    def __str__(self) -> str:
        """Return the value for a message: cut short, control characters escaped."""
        return reprlib.repr(self.value)

    def __getitem__(self, name: str) -> _Value:
        if not isinstance(self.value, dict):
            raise InvalidTable(f"what should hold {name} is {self}, not an object")
        if name not in self.value:
            raise InvalidTable(f"{name} is missing: {AGAIN}")
        return _Value(name, self.value[name])

    def fields(self) -> dict[str, _Value]:
        if not isinstance(self.value, dict):
            raise InvalidTable(f"{self.name} is {self}, not an object")
        return {name: _Value(self.name, value) for name, value in self.value.items()}

    def list_of(self, read: Callable[[_Value], Read], length: int | None = None) -> list[Read]:
        if not isinstance(self.value, list) or length not in (None, len(self.value)):
            raise InvalidTable(f"{self.name} is {self}, not a list{f' of {length}' if length is not None else ''}")
        return [read(_Value(self.name, value)) for value in self.value]

    def word(self) -> str:
        if not isinstance(self.value, str):
            raise InvalidTable(f"{self.name} is {self}, not a word")
        return self.value

    def number(self) -> float:
        if not isinstance(self.value, int | float) or isinstance(self.value, bool) or not 0 <= self.value < LARGEST:
            raise InvalidTable(f"{self.name} is {self}, not a number from 0 to {LARGEST:g}")
        return float(self.value)

    def number_or_none(self) -> float | None:
        return None if self.value is None else self.number()

    def count(self) -> int:
        if not isinstance(self.value, int) or isinstance(self.value, bool) or not 0 <= self.value < LARGEST:
            raise InvalidTable(f"{self.name} is {self}, not a whole number from 0 to {LARGEST:g}")
        return self.value


def _environment(environment: _Value) -> dict[str, str | int | None]:
    for name in VALIDITY:
        if not isinstance(environment[name].value, str | None):
            raise InvalidTable(f"environment.{name} is {environment[name]}, not a word")
    return dict(_facts(environment))


def _facts(environment: _Value) -> Iterator[tuple[str, str | int | None]]:
    for name, fact in environment.fields().items():
        if not isinstance(fact.value, str | int | None):
            raise InvalidTable(f"environment {reprlib.repr(name)} is {fact}, not a word or number")
        yield name, fact.value


def _origin(origin: _Value) -> Origin:
    return Origin(file=origin["file"].word(), sha256=origin["sha256"].word())


def _entry(entry: _Value) -> TableEntry:
    shape = entry["shape"].fields()
    if not set(NEEDED) <= set(shape) <= set(SHAPE):
        known = ", ".join(SHAPE)
        raise InvalidTable(f"shape has the fields {reprlib.repr(sorted(shape))}, not {known}: {AGAIN}")
    try:
        problem = Problem(T=0, **{name: field.value for name, field in shape.items()})  # type: ignore[arg-type]  # checked in it
    except (ValueError, TypeError) as error:
        raise InvalidTable(str(error)) from None
    configs = tuple(entry["configs"].list_of(_config))
    buckets = tuple(entry["buckets"].list_of(lambda bucket: _bucket(bucket, len(configs))))
    tokens = [bucket.T for bucket in buckets]
    if not tokens or tokens != sorted(set(tokens)):
        raise InvalidTable(f"buckets have T = {reprlib.repr(tokens)}, which must ascend")
    loads = tuple(_Value("load", load.value).word() for load in entry["loads"].list_of(lambda load: load))
    if not loads:
        raise InvalidTable("an entry has no loads")
    return TableEntry(shape=problem, loads=loads, configs=configs, buckets=buckets)


def _config(config: _Value) -> Config:
    return dict(_choices(_Value("a configuration", config.value)))


def _choices(config: _Value) -> Iterator[tuple[str, int | float | str | bool]]:
    for name, choice in config.fields().items():
        value = choice.value
        if not isinstance(value, int | float | str) or (isinstance(value, float) and not math.isfinite(value)):
            raise InvalidTable(f"configuration {reprlib.repr(name)} = {choice} is no number, word, or yes or no")
        yield name, value


def _bucket(data: _Value, configs: int) -> Bucket:
    low, high = data["interval"].list_of(_Value.number, length=2)
    verdict = data["verdict"]
    bucket = Bucket(
        T=data["T"].count(),
        default=data["default"].count(),
        chosen=data["chosen"].count(),
        verdict="tuned" if verdict.value == "tuned" else "tie",
        speedup=data["speedup"].number(),
        interval=(low, high),
        noise=data["noise"].number(),
        trials=data["trials"].count(),
        median_ns=tuple(data["median_ns"].list_of(_Value.number_or_none, length=configs)),
        regret={load: regret.number() for load, regret in data["regret"].fields().items()},
    )
    if verdict.value not in ("tuned", "tie"):
        raise InvalidTable(f"verdict = {verdict} is neither tuned nor tie")
    if bucket.T < 1:
        raise InvalidTable("a bucket has T = 0")
    for name, number in (("default", bucket.default), ("chosen", bucket.chosen)):
        if number >= configs or not bucket.median_ns[number]:
            raise InvalidTable(f"{name} = {number} at T = {bucket.T} is no configuration that was measured")
    if any(time is not None and time < LEAST_NS for time in bucket.median_ns):
        raise InvalidTable(f"median_ns at T = {bucket.T} has a time below {LEAST_NS:g} ns")
    return bucket
