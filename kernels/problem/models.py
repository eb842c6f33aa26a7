"""Presets: the shapes of the MoE layers of published models, by name, from the table in ``models.toml``.

A preset is one MoE layer: its experts alone, or these with the model's own block around them. Its note says what it
leaves out of the real layer.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...common.names import unknown
from .problem import ELEMENT_BYTES, Activation, Problem

Layout = Literal["fused", "stacked", "interleaved", "fused and transposed", "interleaved and transposed"]


@dataclass(frozen=True, kw_only=True)
class Model:
    """The MoE layer of one published model, with the shape letters of `problem`.

    ``layers`` counts its MoE layers. ``router`` is its router. ``bias`` is that of its experts. ``source`` says where
    the figures are from; ``note`` what the preset leaves out or replaces, and what is unverified.

    ``block`` is the text of what stands around the experts (`Problem.block`), a shared expert for example, and "" where
    nothing does. ``model_width`` is given where experts work in a latent width D, with dense projections from and to
    the model's own around them; the block has these.

    ``layout`` says how a checkpoint stores the weights of experts, where it is known and not a matrix for each expert
    and projection: gate and up ``fused`` in one (E, 2 F, D), as here; gate and up ``stacked`` apart, each for all
    experts; fused with rows of gate and up ``interleaved``; ``transposed``, with rows and columns exchanged.
    """

    name: str
    D: int
    F: int
    E: int
    K: int
    router: str
    layers: int
    source: str
    gated: bool = True
    activation: Activation = "silu"
    bias: bool = False
    block: str = ""
    model_width: int | None = None
    layout: Layout | None = None
    note: str = ""

    def problem(self, *, T: int, **fields: object) -> Problem:
        """Return the problem of its experts alone on ``T`` tokens; ``fields`` sets or overrides any other field.

        Raises:
            InvalidProblem: when a field's value is outside its range.
        """
        shape = Problem(
            T=T,
            D=self.D,
            F=self.F,
            E=self.E,
            K=self.K,
            gated=self.gated,
            activation=self.activation,
            router=self.router,
            bias=self.bias,
        )
        return shape.replace(**fields)

    def whole(self, *, T: int, **fields: object) -> Problem:
        """Return the problem of its experts with the model's own block around them, as `problem` does.

        Raises:
            InvalidProblem: when a field's value is outside its range.
        """
        return self.problem(T=T, **{"D": self.model_width or self.D, "block": self.block, **fields})

    @property
    def note_alone(self) -> str:
        """The note of the experts alone, which leave out the block."""
        return "; ".join(filter(None, (self.block and f"without its {self.block}", self.note)))

    @property
    def parameters(self) -> int:
        """Number of parameters of all MoE layers with their blocks, without routers."""
        return self.layers * self.whole(T=0, dtype="float32").weight_bytes // ELEMENT_BYTES["float32"]

    @property
    def expert_parameters(self) -> int:
        """Number of parameters of the routed experts of all MoE layers, without shared experts and routers."""
        return self.layers * self.E * self.D * self.F * (3 if self.gated else 2)


def _presets() -> tuple[Model, ...]:
    table = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    return tuple(Model(name=name, **fields.pop("shape"), **fields) for name, fields in table.items())


MODELS: tuple[Model, ...] = _presets()


def model(name: str) -> Model:
    """Return the preset of that name; upper and lower case are the same.

    Raises:
        UnknownName: with the nearest names.
    """
    for preset in MODELS:
        if preset.name.casefold() == name.casefold():
            return preset
    raise unknown("model", name, [preset.name for preset in MODELS])
