"""Models: the shapes of released models, at their own expert counts and ratios of widths."""

from __future__ import annotations

from collections.abc import Sequence

from ..layer import Layer
from ..suite import Suite, SuiteForm, SuitePoint, Sweep
from ._rules import DROPLESS, REDUCED_DROPLESS

# One of each kind of shape, with the narrowest, the widest and the most experts that a model has.
NAMES = (
    *("Mixtral-8x7B", "Mixtral-8x22B", "DBRX", "DeepSeek-V2-Lite", "DeepSeek-V2", "DeepSeek-V3"),
    *("DeepSeek-V4-Flash", "Kimi-K2", "Kimi-K3", "Qwen1.5-MoE-A2.7B", "Qwen2-57B-A14B", "Qwen3-30B-A3B"),
    *("Qwen3-235B-A22B", "Qwen3-Coder-480B", "Qwen3-Next-80B-A3B", "OLMoE-1B-7B", "FlexOlmo-7x7B", "gpt-oss-20b"),
    *("gpt-oss-120b", "Phi-3.5-MoE", "Phi-tiny-MoE", "Granite-3-1B-A400M", "Granite-3-3B-A800M", "Switch-Base-64"),
    *("Switch-Base-128", "Switch-C-2048", "GLaM-64B-64E", "MiniMax-Text-01", "MiniMax-M3", "GLM-4.5"),
    *("GLM-4.5-Air", "Llama-4-Scout", "Llama-4-Maverick", "Nemotron-3-Nano", "Nemotron-3-Super", "Gemma-4-26B"),
    *("Trinity-Nano",),
)
SMALL_D = 256


def _point(layer: Layer, _: None) -> SuitePoint:
    width = "" if layer.width is None else f"D up to {layer.width}, "
    return SuitePoint(series=f"{width}T={layer.problem.T}", x=layer.name, model=layer.model, problem=layer.problem)


def _sweeps(names: Sequence[str]) -> tuple[Sweep, ...]:
    return tuple(
        Sweep(layer=Layer.of(name, T=T, dtype="bfloat16", mode=mode), point=_point)
        for T, mode in ((64, "forward"), (8192, "forward"), (8192, "train"))
        for name in names
    )


suite = Suite(
    question="Which dispatch is fastest for the layer of a released model?",
    axis="model",
    small=SuiteForm(
        baseline="transformers_grouped_mm",
        competitors=DROPLESS,
        sweeps=tuple(Sweep(layer=Layer.of(name, T=512, width=SMALL_D), point=_point) for name in NAMES),
    ),
    full=SuiteForm(baseline="transformers_grouped_mm", competitors=DROPLESS, sweeps=_sweeps(NAMES)),
    # Few wide experts, and many narrow ones; decode, prefill and a training step.
    reduced=SuiteForm(
        baseline="transformers_grouped_mm",
        competitors=REDUCED_DROPLESS.and_references(),
        sweeps=_sweeps(("Mixtral-8x7B", "Qwen3-30B-A3B")),
    ),
)
