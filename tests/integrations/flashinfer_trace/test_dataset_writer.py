"""Records as a FlashInfer-Trace dataset: it fits the schema, its reference is right, and its solutions run."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from flashinfer_schema import check_dataset, check_definition, check_evaluation, check_solution, stored
from hypothesis import given, settings
from hypothesis import strategies as st
from records import ENVIRONMENT, record, records
from torch import Tensor

from moebench.execution.trial.checks.accuracy import errors, verdict
from moebench.integrations.flashinfer_trace.dataset_writer import NothingToExport, dataset_of
from moebench.integrations.flashinfer_trace.evaluation import STATUSES, evaluation_of
from moebench.integrations.flashinfer_trace.kernel_solution import solution_of
from moebench.integrations.flashinfer_trace.moe_definition import (
    GATE_FACTORS,
    definition_name,
    definition_of,
    described,
    without_definition,
)
from moebench.kernels.catalog import KERNELS
from moebench.kernels.oracle import Result, oracle
from moebench.kernels.problem import Activation, Problem
from moebench.kernels.problem.balance.routing_statistics import max_over_mean
from moebench.kernels.problem.draw_routes import check_seed, draw_routes
from moebench.kernels.problem.problem import ONLY_GATED
from moebench.kernels.problem.routing import NO_ROUTE
from moebench.kernels.problem.tensors import Inputs, draw_inputs, draw_weights
from moebench.results.record import Error, Record, Status
from moebench.results.record.store import load

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[3]
SMALL = Problem(T=13, D=16, F=8, E=4, K=2)


def of(problem: Problem, kernel: str = "loop", **changes: Any) -> Record:
    errors_found = {"y": Error(norm=1e-7, worst_row=3e-7)}
    fields = {"problem": dataclasses.asdict(problem), "key": problem.key, "kernel": kernel, "errors": errors_found}
    return record(problem.T, **fields | changes)


def written(tmp_path: Path, *made: Record) -> dict[str, list[dict[str, Any]]]:
    dataset_of(made).write(tmp_path / "set")
    return check_dataset(tmp_path / "set")


def arguments(inputs: Inputs, ids_TK: Tensor) -> dict[str, Tensor | None]:
    weights = inputs.weights
    given = {
        "hidden_states": inputs.x_TD,
        "topk_ids": ids_TK,
        "topk_weights": inputs.routing.gates_TK,
        "gemm1_weights": weights.w_up_EUD,
        "gemm2_weights": weights.w_down_EDF,
        "gemm1_scales": weights.s_up_EU,
        "gemm2_scales": weights.s_down_ED,
        "gemm1_bias": weights.b_up_EU,
        "gemm2_bias": weights.b_down_ED,
    }
    return {name: tensor for name, tensor in given.items() if tensor is not None}


def assert_computes(source: str, problem: Problem, *, absent: bool = False) -> None:
    """Run the source's `run` on inputs of the problem, some routes absent, and compare with the oracle."""
    inputs = draw_inputs(problem, draw_weights(problem, seed=0, device=CPU), seed=1, device=CPU)
    ids_TK = inputs.routing.ids_TK.clone()
    if absent:
        ids_TK[::3, 0] = NO_ROUTE
        ids_TK[1::3] = NO_ROUTE
    inputs = dataclasses.replace(inputs, routing=dataclasses.replace(inputs.routing, ids_TK=ids_TK))
    names: dict[str, Any] = {}
    exec(compile(source, "main.py", "exec"), names)  # noqa: S102  # what FlashInfer-Bench does with it
    y_TD = names["run"](**arguments(inputs, ids_TK))
    assert y_TD.dtype == inputs.x_TD.dtype
    found = Result(y_TD=y_TD, gradients={})
    assert verdict(errors(found, oracle(problem, inputs)), problem.rounding) is None


# Definitions.


def test_every_activation_has_a_formula() -> None:
    assert set(GATE_FACTORS) == set(get_args(Activation))


@pytest.mark.parametrize("activation", GATE_FACTORS)
@pytest.mark.parametrize("gated", [True, False])
def test_the_reference_computes_the_layer(activation: Activation, gated: bool) -> None:
    if not gated and activation in ONLY_GATED:
        return
    others = (
        ({"bias": True}, {"dtype": "bfloat16"}, {"dtype": "float8_e4m3fn"}, {"T": 0}) if activation == "silu" else ()
    )
    for changes in ({}, *others):
        problem = SMALL.replace(T=4, activation=activation, gated=gated).replace(**changes)
        definition = definition_of(problem, problem.K)
        check_definition(definition)
        assert_computes(definition["reference"], problem, absent=True)
        assert described(definition["name"]) == (activation, gated)


def test_a_name_is_of_one_layer() -> None:
    """Problems with one name have one definition; T, seed, load and router are no part of it."""
    problems = [
        SMALL.replace(**changes)
        for changes in (
            {},
            {"T": 99, "seed": 3, "load": "zipf:1.2", "router": "softmax_topk"},
            {"D": 17},
            {"F": 9},
            {"E": 5},
            {"K": 1},
            {"gated": False},
            {"bias": True},
            {"activation": "relu"},
            {"dtype": "float16"},
        )
    ]
    made = {definition_name(problem, problem.K): definition_of(problem, problem.K) for problem in problems}
    assert len(made) == len(problems) - 1
    assert made[definition_name(problems[1], 2)] == definition_of(problems[0], 2)


@pytest.mark.parametrize(
    "changes", [{"mode": "train"}, {"ranks": 2}, {"capacity_factor": 1.0}, {"block": "shared:width=8"}], ids=str
)
def test_what_no_definition_can_say_is_left_out_with_the_reason(changes: dict[str, Any]) -> None:
    problem = SMALL.replace(**changes)
    assert without_definition(problem)
    made = dataset_of([of(SMALL), of(problem)])
    assert made.traces == 1
    assert list(made.left_out) == [without_definition(problem)]
    with pytest.raises(NothingToExport, match=r"no record has a place in a dataset: 1 of "):
        dataset_of([of(problem)])


# Workloads and solutions.


def test_a_workload_has_the_routes_of_the_check(tmp_path: Path) -> None:
    problem = SMALL.replace(load="zipf:1.5", router="sigmoid_topk:scale=2.5", seed=4)
    (workload,) = written(tmp_path, of(problem), of(problem, "grouped"))["workloads"]
    routing = draw_routes(problem, seed=check_seed(problem), device=CPU)
    for name, tensor in {"topk_ids": routing.ids_TK, "topk_weights": routing.gates_TK}.items():
        place = workload["workload"]["inputs"][name]
        assert torch.equal(
            torch.from_numpy(stored(tmp_path / "set" / place["path"], place["tensor_key"])[1].copy()), tensor
        )


@pytest.mark.parametrize(
    ("kernel", "changes"),
    [
        ("loop", {}),
        ("padded", {}),
        ("block_sparse", {}),
        ("grouped", {"bias": True, "gated": False, "activation": "gelu"}),
        ("scatter", {"bias": True, "dtype": "bfloat16"}),
        ("loop", {"dtype": "float8_e4m3fn"}),
    ],
)
def test_a_solution_runs_its_kernel(kernel: str, changes: dict[str, Any]) -> None:
    problem = SMALL.replace(D=32, F=16).replace(**changes)
    config = KERNELS.load(kernel).space(problem, CPU)[0]
    made = solution_of(problem, kernel, config, definition_of(problem, problem.K), ["cpu"])
    check_solution(made)
    (source,) = made["sources"]
    assert_computes(source["content"], problem, absent=True)
    assert_computes(source["content"], problem.replace(T=5))


@pytest.mark.exhaustive  # it imports transformers
def test_a_solution_of_another_project_has_its_name_and_leaves_no_route_unread() -> None:
    pytest.importorskip("transformers")
    definition = definition_of(SMALL, SMALL.K)
    made = solution_of(SMALL, "transformers_batched_mm", {}, definition, ["cpu"])
    assert made["author"] == "transformers"
    assert made["spec"]["dependencies"] == ["moebench", "transformers"]
    assert_computes(made["sources"][0]["content"], SMALL, absent=True)


def test_a_solution_that_cannot_take_a_batch_says_why() -> None:
    problem = SMALL.replace(D=30)  # no multiple of 4
    made = solution_of(problem, "grouped", {}, definition_of(problem, problem.K), ["cpu"])
    with pytest.raises(RuntimeError, match=r"grouped_mm needs widths in multiples of 4 for float32, D = 30"):
        assert_computes(made["sources"][0]["content"], problem)


def test_configurations_and_layers_are_solutions_of_their_own(tmp_path: Path) -> None:
    made = written(
        tmp_path,
        of(SMALL),
        of(SMALL.replace(T=5)),
        of(SMALL, config={"tile": 32}),
        of(SMALL.replace(E=5)),
        of(SMALL, "grouped", environment=ENVIRONMENT.model_copy(update={"device": "another CPU"})),
    )
    assert {kind: len(one) for kind, one in made.items()} == {
        "definitions": 2,
        "solutions": 4,
        "workloads": 3,
        "traces": 5,
    }
    by_kernel = {one["name"].split("_")[1]: one["spec"]["target_hardware"] for one in made["solutions"]}
    assert by_kernel == {"loop": ["cpu", "a CPU"], "grouped": ["cpu", "another CPU"]}


# Traces.


@pytest.mark.parametrize("status", Status)
def test_each_status_is_told_or_left_out(status: Status, tmp_path: Path) -> None:
    passed: dict[str, Any] = {} if status is Status.passed else {"timing": None, "reason": "it did so"}
    one = of(SMALL, status=status, **passed)
    if status not in STATUSES:
        assert evaluation_of(one) is None
        assert dataset_of([of(SMALL), one]).left_out == {f"status {status.value}, which is no evaluation": 1}
        return
    (trace,) = written(tmp_path, one)["traces"]
    assert trace["evaluation"]["status"] == STATUSES[status]
    assert status is Status.passed or trace["evaluation"]["log"] == "it did so"


def test_an_evaluation_has_the_figures_of_the_record() -> None:
    made = evaluation_of(of(SMALL))
    assert made
    assert made["performance"] == {"latency_ms": 2e-6}
    assert made["correctness"]["max_relative_error"] == 3e-7
    assert made["correctness"]["max_absolute_error"] == "NaN"
    assert made["correctness"]["extra"]["relative_error_norm"] == 1e-7
    assert made["environment"] == {
        "hardware": "a CPU",
        "libs": {"torch": "2.8.0", "python": "3.11.9", "moebench": "0.1.0"},
    }
    assert made["log"] == "median of 3 samples by perf_counter, caches cold, flushed"
    assert made["timestamp"] == "2026-03-01T10:00:00+00:00"


@settings(max_examples=25, deadline=None)
@given(records())
def test_an_evaluation_of_any_record_fits_the_schema(made: Record) -> None:
    found = evaluation_of(made)
    assert (found is None) == (made.status not in STATUSES)
    if found is not None:
        check_evaluation(json.loads(json.dumps(found, allow_nan=False)))


@settings(max_examples=12, deadline=None)
@given(
    st.builds(
        Problem,
        T=st.integers(0, 9),
        D=st.integers(1, 9),
        F=st.integers(1, 9),
        E=st.integers(3, 6),
        K=st.integers(1, 3),
        gated=st.booleans(),
        activation=st.sampled_from(["silu", "gelu", "relu", "gelu_tanh"]),
        dtype=st.sampled_from(["float32", "bfloat16", "float16", "float8_e4m3fn"]),
        bias=st.booleans(),
        router=st.sampled_from(["softmax_topk", "sigmoid_topk", "softmax_topk_renorm", "expert_choice"]),
        load=st.sampled_from(["uniform", "hot", "zipf:1.1"]),
        seed=st.integers(0, 9),
    )
)
def test_a_dataset_of_any_problem_fits_the_schema(problem: Problem) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = written(Path(folder), of(problem))
        assert len(found["traces"]) == len(found["workloads"]) == 1
        assert_computes(found["definitions"][0]["reference"], problem)


def test_records_whose_routes_have_changed_are_left_out() -> None:
    """Balance says what the routes were: a file of another version may have drawn others."""
    recorded = load(ROOT / "results/recorded/cpu-router-share.jsonl").records
    balance = next(one.balance for one in recorded if one.balance)
    routing = draw_routes(SMALL, seed=check_seed(SMALL), device=CPU)
    right = balance.model_copy(update={"max_over_mean": max_over_mean(routing.counts_E())})
    wrong = right.model_copy(update={"max_over_mean": right.max_over_mean + 0.5})
    made = dataset_of([of(SMALL, balance=right), of(SMALL, balance=wrong)])
    assert made.left_out == {"routes that can no longer be drawn: measure it again": 1}


def test_kernels_that_are_not_here_or_no_layer_are_left_out() -> None:
    made = dataset_of([of(SMALL), of(SMALL, "no_such_kernel"), of(SMALL, "matmul"), of(SMALL, "router_alone")])
    assert made.traces == 1
    assert sum(made.left_out.values()) == 3


def test_recorded_runs_make_a_dataset(tmp_path: Path) -> None:
    made = dataset_of(load(ROOT / "results/recorded/cpu-router-share.jsonl").records[:12])
    made.write(tmp_path / "set")
    found = check_dataset(tmp_path / "set")
    assert len(found["traces"]) == made.traces > 3


def test_a_dataset_is_read_by_the_package_of_flashinfer_bench(tmp_path: Path) -> None:
    data = pytest.importorskip("flashinfer_bench.data")
    dataset_of([of(SMALL), of(SMALL, "grouped"), of(SMALL.replace(bias=True, dtype="bfloat16"))]).write(
        tmp_path / "set"
    )
    found = data.TraceSet.from_path(str(tmp_path / "set"))
    assert (len(found.definitions), sum(map(len, found.solutions.values()))) == (2, 3)
    assert sum(map(len, found.traces.values())) == 3
