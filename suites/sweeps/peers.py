"""Peers: against the experts of Hugging Face transformers, and against dense products of the same FLOPs."""

from __future__ import annotations

from ...kernels.problem import DType
from ...kernels.problem.models import model
from ..suite import Suite, SuiteForm, SuitePoint
from ._rules import DROPLESS

COUNTS = (512, 1024, 2048, 4096, 8192)
MODELS = ("Mixtral-8x7B", "Qwen3-30B-A3B")


def _places(name: str, D: int, dtype: DType) -> tuple[SuitePoint, ...]:
    problem = model(name).problem(T=1, dtype=dtype)
    problem = problem.scaled(D) if problem.D > D else problem
    series = f"{name}, D={problem.D}"
    return tuple(SuitePoint(series=series, x=T, model=name, problem=problem.replace(T=T)) for T in COUNTS)


suite = Suite(
    question="Is the best dispatch here at least as fast as transformers' best, and how close to dense products?",
    axis="tokens T",
    small=SuiteForm(
        baseline="transformers_grouped_mm",
        competitors=DROPLESS.and_references(),
        places=tuple(
            place for dtype in ("float32", "bfloat16") for name in MODELS for place in _places(name, 512, dtype)
        ),
    ),
    full=SuiteForm(
        baseline="transformers_grouped_mm",
        competitors=DROPLESS.and_references(),
        places=tuple(place for name in MODELS for place in _places(name, 1 << 20, "bfloat16")),
    ),
)
