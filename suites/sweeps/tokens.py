"""Token count: from one decoded token to a long prefill."""

from __future__ import annotations

from ..layer import Layer
from ..suite import Suite, SuiteForm, SuitePoint, Sweep
from ._rules import DECODING, DROPLESS

COUNTS = (1, 4, 16, 64, 256, 1024, 4096, 32768)
DECODED = (1, 4, 64)
LARGE = tuple(Layer.of(name, T=1, dtype="bfloat16") for name in ("Mixtral-8x7B", "Qwen3-30B-A3B"))


def _point(layer: Layer, T: int) -> SuitePoint:
    problem = layer.changed(T=T)
    return SuitePoint(series=layer.with_width, x=problem.T, model=layer.model, problem=problem)


def _sweeps(layers: tuple[Layer, ...], counts: tuple[int, ...]) -> tuple[Sweep, ...]:
    return tuple(Sweep(layer=layer, point=_point, values=counts) for layer in layers)


suite = Suite(
    question="Which dispatch is fastest from one token to 32768?",
    axis="tokens T",
    small=SuiteForm(
        baseline="loop", competitors=DROPLESS, sweeps=_sweeps((Layer.of("Qwen3-30B-A3B", T=1, width=256),), COUNTS)
    ),
    full=SuiteForm(baseline="transformers_grouped_mm", competitors=DROPLESS, sweeps=_sweeps(LARGE, COUNTS)),
    reduced=SuiteForm(baseline="transformers_grouped_mm", competitors=DECODING, sweeps=_sweeps(LARGE, DECODED)),
)
