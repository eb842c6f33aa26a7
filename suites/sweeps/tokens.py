"""Token count: from one decoded token to a long prefill."""

from __future__ import annotations

from ...kernels.problem import DType
from ...kernels.problem.models import model
from ..suite import Suite, SuiteForm, SuitePoint
from ._rules import DROPLESS, REDUCED_DROPLESS

COUNTS = (1, 4, 16, 64, 256, 1024, 4096, 32768)
DECODED = (1, 4, 64)
MODELS = ("Mixtral-8x7B", "Qwen3-30B-A3B")


def _places(name: str, D: int, dtype: DType, counts: tuple[int, ...]) -> tuple[SuitePoint, ...]:
    problem = model(name).problem(T=1, dtype=dtype)
    problem = problem.scaled(D) if problem.D > D else problem
    series = f"{name}, D={problem.D}"
    return tuple(SuitePoint(series=series, x=T, model=name, problem=problem.replace(T=T)) for T in counts)


suite = Suite(
    question="Which dispatch is fastest from one token to 32768?",
    axis="tokens T",
    small=SuiteForm(baseline="loop", competitors=DROPLESS, places=_places("Qwen3-30B-A3B", 256, "float32", COUNTS)),
    full=SuiteForm(
        baseline="transformers_grouped_mm",
        competitors=DROPLESS,
        places=tuple(place for name in MODELS for place in _places(name, 4096, "bfloat16", COUNTS)),
    ),
    reduced=SuiteForm(
        baseline="transformers_grouped_mm",
        competitors=REDUCED_DROPLESS,
        places=tuple(place for name in MODELS for place in _places(name, 4096, "bfloat16", DECODED)),
    ),
)
