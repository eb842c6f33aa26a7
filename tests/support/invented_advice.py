"""Advice that was never given, for tests of what shows it."""

from __future__ import annotations

from typing import Any

from moebench.results.record.advice import (
    Advice,
    AdviceSource,
    Certainty,
    DispatchOption,
    ExpertMemory,
    ExpertSize,
    Margin,
    MixAdvice,
    PhaseAdvice,
    SingleDispatch,
)

EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>\x1b[2J | `*[a](http://b)"
SHAPE = {"T": 64, "D": 32, "F": 64, "E": 4, "K": 2, "dtype": "float32", "capacity_factor": None, "load": "uniform"}


def _option(kernel: str, seconds: float) -> DispatchOption:
    return DispatchOption(
        kernel=kernel,
        config={"tile": 512},
        source=AdviceSource.measured,
        basis="measured on 2026-03-01, cold caches",
        seconds=seconds,
        low_s=0.9 * seconds,
        high_s=1.1 * seconds,
        tokens_per_s=64 / seconds,
        peak_bytes=2**20,
        call_bytes=2**21,
        cost_per_million=1 / seconds,
    )


def _phase(phase: Any, tokens: int, certainty: Certainty, *options: DispatchOption) -> PhaseAdvice:
    margin = Margin(over=options[1].kernel, ratio=2.0, low=1.9, high=2.1, certainty=certainty, why="measured so")
    first, second = options
    options_given = [first, second.model_copy(update={"certainty": certainty})]
    return PhaseAdvice(phase=phase, tokens=tokens, share=0.5, key="key", options=options_given, margin=margin)


def invented(**changes: Any) -> Advice:
    """Return advice without a mix, with some fields changed."""
    fields: dict[str, Any] = {
        "layer": "a layer",
        "problem": SHAPE,
        "device": "a CPU",
        "memory_bytes": 2**34,
        "price_per_hour": 2.0,
        "phases": [_phase("decode", 64, Certainty.certain, _option("grouped", 1e-3), _option("loop", 2e-3))],
        "experts": ExpertSize(
            layers=16,
            total_parameters=10**9,
            activated_parameters=10**8,
            flops_per_token=2 * 10**8,
            family="Model",
            memory=[
                ExpertMemory(
                    bits=bits,
                    number_format=name,
                    expert_bytes=10**9 * bits // 8,
                    activated_bytes=10**8 * bits // 8,
                    fits=True,
                    largest="Model-9B",
                    largest_bytes=2**32,
                )
                for bits, name in ((16, "bfloat16"), (8, "float8_e4m3fn"), (4, "MXFP4"))
            ],
        ),
        "command": "moebench run models --shape D=32,F=64,E=4,K=2",
        "notes": ["a note"],
        "moebench": "0.1.0",
        "time": "2026-03-01T10:00:00+00:00",
    }
    return Advice(**fields | changes)


def advice() -> Advice:
    """Return advice for two phases: one is certain, the other a tie."""
    second = _phase("prefill", 8192, Certainty.tied, _option("loop", 50e-3), _option("grouped", 51e-3))
    single = SingleDispatch(
        kernel="grouped", seconds_per_million=11.0, loss=0.1, certainty=Certainty.tied, why="in prefill:8192: so"
    )
    mix = MixAdvice(
        seconds_per_million=10.0,
        tokens_per_s=1e5,
        model_tokens_per_s=6250.0,
        cost_per_million=0.1,
        sources=[AdviceSource.measured],
        single=single,
    )
    return invented(phases=[*invented().phases, second], mix=mix)
