"""The layer that a suite is asked of: the suite's own, or one that a user names."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..kernels.problem import InvalidProblem, Problem
from ..kernels.problem.models import Model, model

MODELS_OWN = "model"
"""The word for the block that a model has itself, where a text of `Problem.block` could stand."""
BATCH = ("T", "dtype", "capacity_factor", "capacity_rule", "drop", "load", "mode", "ranks", "wire", "seed")
"""Fields of a problem that say how a layer is used. All others are of the layer itself."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer, used as its problem says.

    ``model`` is the name of the preset that it is of, ``width`` the D that it was scaled for; ``fixed`` are the
    fields that a user has given, which no sweep changes; ``note`` says what it leaves out of the real layer.
    """

    name: str
    problem: Problem
    model: str | None = None
    width: int | None = None
    fixed: frozenset[str] = frozenset()
    note: str = ""

    @staticmethod
    def of(name: str, *, T: int, width: int | None = None, whole: bool = False, **fields: object) -> Layer:
        """Return the experts of a preset, or the ``whole`` layer with its block, as it is or scaled to a width.

        Raises:
            UnknownName: when there is no such preset.
            InvalidProblem: when a field's value is outside its range.
        """
        preset = model(name)
        layer = dataclasses.replace(_layer(preset, whole=whole, T=T, **fields), model=preset.name)
        return layer if width is None else layer.scaled(width)

    @staticmethod
    def configured(path: Path, *, whole: bool = False, T: int = 1, **fields: object) -> Layer:
        """Return the experts of a model by its config.json, or the ``whole`` layer with its block.

        Raises:
            UserError: when the file is not that of an MoE model, or a field's value is outside its range.
        """
        from ..kernels.problem.configs.model_config import model_of_config  # noqa: PLC0415  # only where there is such a file

        return _layer(model_of_config(path), whole=whole, T=T, **fields)

    def scaled(self, width: int) -> Layer:
        """Return the layer scaled to a width, see `Problem.scaled`.

        Raises:
            InvalidProblem: naming the layer, when it is narrower already, or cannot be as narrow.
        """
        if width > self.problem.D:
            raise InvalidProblem(f"{self.name} has D = {self.problem.D} already: give at most that, or leave it out")
        try:
            problem = self.problem.scaled(width)
        except InvalidProblem as error:
            raise InvalidProblem(f"{self.name}: {error}") from error
        return dataclasses.replace(self, problem=problem, width=width)

    @property
    def title(self) -> str:
        """Name of the layer, with its width if it was scaled."""
        return self.name if self.width is None else self.with_width

    @property
    def with_width(self) -> str:
        """Name and width of the layer."""
        return self.name if self.name.startswith("D=") else f"{self.name}, D={self.problem.D}"

    def changed(self, **fields: object) -> Problem:
        """Return the problem with some fields changed, all but the fixed ones.

        Raises:
            InvalidProblem: when the layer cannot be used so.
        """
        return self.problem.replace(**{name: value for name, value in fields.items() if name not in self.fixed})

    def used_as(self, other: Layer | None, fields: Mapping[str, object]) -> Layer:
        """Return another layer, or this one again, used as this one is but for some fields, which stay fixed.

        Raises:
            InvalidProblem: when it cannot be used so.
        """
        layer = other or self
        use = {name: getattr(self.problem, name) for name in BATCH}
        return dataclasses.replace(layer, problem=layer.problem.replace(**use | dict(fields)), fixed=frozenset(fields))


def _layer(of: Model, *, whole: bool, T: int, **fields: object) -> Layer:
    if not whole:
        return Layer(name=of.name, problem=of.problem(T=T, **fields), note=of.note_alone)
    name = f"{of.name} with its block" if of.block else of.name  # whose widths are those of the problem
    return Layer(name=name, problem=of.whole(T=T, **fields), note=of.note)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Request of a user to suites: layers in place of their own, and values of fields, each of which stays as it is.

    Nothing asked means the suites as they are.
    """

    layers: tuple[Layer, ...] = ()
    fields: Mapping[str, tuple[object, ...]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.layers or self.fields)

    @property
    def models(self) -> set[str]:
        """The names of presets if they are all that is asked: a suite may have points of them."""
        as_they_are = all(layer.model and layer.width is None and not layer.problem.block for layer in self.layers)
        return {layer.model for layer in self.layers if layer.model} if as_they_are and not self.fields else set()

    def each(self) -> Iterator[tuple[Layer | None, dict[str, object]]]:
        """Yield every layer, None for a suite's own, with every combination of the fields."""
        for layer in self.layers or (None,):
            for values in itertools.product(*self.fields.values()):
                yield layer, dict(zip(self.fields, values, strict=True))


NOTHING_ASKED = Asked()
