"""The adviser: the fastest by the records is advised, the mix is weighted rightly, and nothing is surer than it is."""

from __future__ import annotations

import itertools
from statistics import median

import pytest
from advised import PROBLEM, recorded, request, timed
from hypothesis import given, settings
from hypothesis import strategies as st
from records import ENVIRONMENT

from moebench.kernels.problem.models import model
from moebench.results.record import Record, Status
from moebench.results.record.advice import AdviceSource, Certainty
from moebench.results.references import NOT_COMPETING
from moebench.suites.advice.advised_device import advised_device
from moebench.suites.advice.adviser import AdviceRequest, NoSuchRecords, advise
from moebench.suites.advice.mix_totals import MILLION
from moebench.suites.advice.traffic_mix import parse_traffic
from moebench.suites.layer import Layer

FASTER = (timed("loop", 64, 2.0), timed("grouped", 64, 1.0), timed("loop", 8192, 50.0), timed("grouped", 8192, 100.0))
TIMES = st.floats(1e-3, 1e3)


@pytest.mark.parametrize(
    "file", ["cpu-main.jsonl", "cpu-peers.jsonl", "cpu-peers-zen4.jsonl", "cpu-router-share.jsonl"]
)
def test_of_committed_records_the_least_median_is_advised(file: str) -> None:
    """At every place of the files: a shape, a number of tokens, a dtype, a mode and a capacity."""
    records = recorded(file)
    device = advised_device(None, records)
    places: dict[tuple[object, ...], list[Record]] = {}
    for one in records:
        if one.status is Status.passed and one.kernel not in NOT_COMPETING and one.problem["ranks"] == 1:
            places.setdefault((one.key, one.point.suite), []).append(one)
    assert places
    for here in places.values():
        problem = {name: here[0].problem[name] for name in here[0].problem if name not in ("T", "mode")}
        layer = Layer(name="layer", problem=PROBLEM.replace(**problem))
        phase = "train" if here[0].problem["mode"] == "train" else "decode"
        traffic = parse_traffic(f"{phase}:{here[0].problem['T']}")
        # Of the file's suites only this one: a later one may have measured the same again.
        same = [one for one in records if one.point.suite == here[0].point.suite]
        advice = advise(
            AdviceRequest(layer=layer, problem=layer.problem, model=None, traffic=traffic, device=device, records=same)
        )
        best = min(here, key=lambda one: median(one.timing.samples_ns if one.timing else [0]))
        (found,) = advice.phases
        assert found.options[0].kernel == best.kernel
        assert found.options[0].source is AdviceSource.measured
        assert best.timing is not None
        assert found.options[0].seconds == pytest.approx(median(best.timing.samples_ns) / 1e9)


def test_each_phase_has_its_own_dispatch_and_all_together_the_best_of_one() -> None:
    advice = advise(request("decode:64=0.5,prefill:8192=0.5", *FASTER))
    assert [phase.options[0].kernel for phase in advice.phases] == ["grouped", "loop"]
    assert [phase.margin.certainty for phase in advice.phases if phase.margin] == [Certainty.certain] * 2
    mix = advice.mix
    assert mix is not None
    assert mix.single is not None
    best = MILLION * (0.5 * 1e-3 / 64 + 0.5 * 50e-3 / 8192)
    loop, grouped = (MILLION * (0.5 * a / 64 + 0.5 * b / 8192) for a, b in ((2e-3, 50e-3), (1e-3, 100e-3)))
    assert mix.seconds_per_million == pytest.approx(best)
    assert mix.single.kernel == "grouped"
    assert grouped < loop
    assert mix.single.loss == pytest.approx(grouped / best - 1)
    assert mix.single.certainty is Certainty.certain
    assert advice.command == ""


@given(
    st.lists(st.tuples(st.integers(1, 100), TIMES), min_size=1, max_size=5, unique_by=lambda pair: pair[0]), st.data()
)
def test_the_cost_of_a_mix_lies_between_those_of_its_phases(
    calls: list[tuple[int, float]], data: st.DataObject
) -> None:
    weights = [data.draw(st.integers(1, 100)) for _ in calls]
    traffic = ",".join(f"decode:{T}={weight / sum(weights)!r}" for (T, _), weight in zip(calls, weights, strict=True))
    records = [timed("loop", T, ms) for T, ms in calls]
    advice = advise(request(traffic, *records, price=3.0))
    costs = [phase.options[0].cost_per_million or 0 for phase in advice.phases]
    assert advice.mix is not None
    assert min(costs) * (1 - 1e-9) <= (advice.mix.cost_per_million or 0) <= max(costs) * (1 + 1e-9)
    if len(calls) == 1:
        assert advice.mix.cost_per_million == pytest.approx(costs[0])
        assert advice.mix.tokens_per_s == pytest.approx(advice.phases[0].options[0].tokens_per_s)


@settings(max_examples=25)  # each draws thousands of resamples
@given(st.lists(st.lists(TIMES, min_size=3, max_size=3), min_size=1, max_size=3))
def test_one_dispatch_for_all_is_the_best_of_those_that_run_all_and_never_better_than_a_choice(
    times: list[list[float]],
) -> None:
    kernels, tokens = ("loop", "grouped", "padded"), [64 * 4**number for number in range(len(times))]
    records = [
        timed(kernel, T, ms)
        for T, at_T in zip(tokens, times, strict=True)
        for kernel, ms in zip(kernels, at_T, strict=True)
        if (kernel, T) != ("padded", 64)  # which cannot run the first phase
    ]
    traffic = ",".join(f"decode:{T}={1 / len(tokens)!r}" for T in tokens)
    mix = advise(request(traffic, *records)).mix
    assert mix is not None
    assert mix.single is not None
    sums = {
        kernel: sum(MILLION * at_T[number] / 1e3 / T / len(tokens) for T, at_T in zip(tokens, times, strict=True))
        for number, kernel in enumerate(kernels[:2])
    }
    assert mix.single.seconds_per_million == pytest.approx(min(sums.values()))
    assert mix.single.kernel in kernels[:2]
    assert mix.single.seconds_per_million >= mix.seconds_per_million * (1 - 1e-9)
    assert mix.single.loss == pytest.approx(mix.single.seconds_per_million / mix.seconds_per_million - 1, abs=1e-9)


@pytest.mark.parametrize("order", [*itertools.permutations(["decode:64=0.2", "decode:8192=0.5", "prefill:8192=0.3"])])
def test_the_order_of_phases_does_not_matter(order: tuple[str, ...]) -> None:
    mix = advise(request(",".join(order), *FASTER, price=1.0)).mix
    usual = advise(request("decode:64=0.2,decode:8192=0.5,prefill:8192=0.3", *FASTER, price=1.0)).mix
    assert mix is not None
    assert usual is not None
    assert mix.seconds_per_million == pytest.approx(usual.seconds_per_million)
    assert mix.cost_per_million == pytest.approx(usual.cost_per_million)
    assert mix.single == usual.single


def test_costs_are_of_all_layers_of_a_model_and_of_one_without() -> None:
    layer = Layer.of("OLMoE-1B-7B", T=1, dtype="bfloat16")
    fields = {name: getattr(layer.problem, name) for name in ("D", "F", "E", "K", "dtype", "router")}
    one = timed("loop", 64, 36.0, problem=fields)
    preset = model("OLMoE-1B-7B")
    found = advise(request("decode:64", one, layer=layer, problem=layer.problem, model=preset, price=2.0))
    alone = advise(request("decode:64", one, layer=layer, problem=layer.problem, price=2.0))
    million_s = 36e-3 / 64 * 1e6
    assert alone.phases[0].options[0].cost_per_million == pytest.approx(2.0 * million_s / 3600)
    assert found.phases[0].options[0].cost_per_million == pytest.approx(16 * 2.0 * million_s / 3600)
    assert found.phases[0].options[0].model_tokens_per_s == pytest.approx(64 / 36e-3 / 16)
    assert alone.phases[0].options[0].model_tokens_per_s is None
    assert advise(request("decode:64", one, layer=layer, problem=layer.problem)).mix.cost_per_million is None  # type: ignore[union-attr]


def test_a_dispatch_that_does_not_fit_is_no_option() -> None:
    small, large = timed("loop", 64, 2.0), timed("grouped", 64, 1.0, memory={"peak": 2**40, "saved": 0})
    advice = advise(request("decode:64", small, large))
    assert [one.kernel for one in advice.phases[0].options] == ["loop"]
    assert advice.phases[0].left_out == ["grouped: a call needs 1024 GiB, there are 16"]
    none = advise(request("decode:64", large))
    assert not none.complete
    assert none.mix is None
    assert none.phases[0].reason == "grouped: a call needs 1024 GiB, there are 16"


def test_what_was_not_measured_and_should_be_faster_is_named_and_measured_by_the_command() -> None:
    here = advised_device("cpu", ())
    made_here = ENVIRONMENT.model_copy(update={"device": here.name})
    advice = advise(
        request("decode:64", timed("loop", 64, 1e4, environment=made_here), device=here, words=["--shape", "D=32"])
    )
    (phase,) = advice.phases
    assert [one.kernel for one in phase.options] == ["loop"]
    named = [one.kernel for one in phase.unmeasured]
    assert {"grouped", "scatter"} <= set(named)
    assert "loop" not in named
    assert f"--kernel {','.join(['loop', *named])} " in advice.command
    fast = advise(
        request("decode:64", timed("loop", 64, 1e-3, environment=made_here), device=here, words=["--shape", "D=32"])
    )
    assert fast.phases[0].unmeasured == []
    assert fast.command == ""
    away = advise(request("decode:64", timed("loop", 64, 1e4)))
    assert away.phases[0].unmeasured == []


def test_every_other_dispatch_says_how_sure_its_place_is() -> None:
    noisy = [timed(kernel, 64, ms, spread=0.2) for kernel, ms in (("loop", 1.01), ("grouped", 1.0), ("padded", 9.0))]
    (phase,) = advise(request("decode:64", *noisy)).phases
    assert [(one.kernel, one.certainty) for one in phase.options] == [
        ("grouped", None),
        ("loop", Certainty.tied),
        ("padded", Certainty.certain),
    ]
    assert [one.kernel for one in phase.tied] == ["loop"]


def test_records_of_another_layer_are_refused_with_what_they_have() -> None:
    other = timed("loop", 64, 1.0, problem={"E": 8})
    with pytest.raises(NoSuchRecords, match="they have D=32 F=64 E=8 K=2 float32 forward"):
        advise(request("decode:64", other))
    with pytest.raises(NoSuchRecords, match="in a mode of the traffic"):
        advise(request("train:64", timed("loop", 64, 1.0)))


def test_a_command_measures_all_dispatches_of_a_phase_without_times_but_not_what_does_not_fit() -> None:
    words = ["--shape", "D=32,F=64,E=4,K=2"]
    unknown = advise(request("decode:64=0.5,train:64=0.5", timed("loop", 64, 2.0), words=words))
    assert unknown.command == (
        "moebench run models --shape D=32,F=64,E=4,K=2 --tokens 64 --mode train --output advised.jsonl"
    )
    large = timed("loop", 64, 1.0, memory={"peak": 2**40, "saved": 0})
    assert advise(request("decode:64", large, words=words)).command == ""


def test_a_command_settles_what_was_measured_at_different_times() -> None:
    advice = advise(
        request("decode:64", timed("loop", 64, 2.0), timed("grouped", 64, 1.0, at=5), words=["--shape", "D=32,F=64"])
    )
    assert advice.phases[0].margin is not None
    assert advice.phases[0].margin.certainty is Certainty.unclear
    assert advice.command == (
        "moebench run models --shape D=32,F=64 --tokens 64 --mode forward --kernel grouped,loop --output advised.jsonl"
    )
