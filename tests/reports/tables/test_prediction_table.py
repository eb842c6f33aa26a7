"""A prediction is shown from its record alone: the layer, every dispatcher, and the fastest where it fits."""

from __future__ import annotations

import io

from pydantic import JsonValue
from rich.console import Console

from moebench.reports.tables.prediction_table import fastest, prediction_table
from moebench.results.record.prediction import Expected, Held, Prediction, Sent

GIB = 2**30


def predicted(dispatcher: str, ranks: int, seconds: float, *, held_gib: int = 1) -> Prediction:
    memory = Held(weights=held_gib * GIB, tokens=0, buffers=0, available=8.0 * GIB)
    sent = Sent(itself=0, node=2.0**20, across=3.0 * 2**20)
    expected = Expected(
        seconds=seconds, straggling=0, hidden_s=0, parts={}, bound="products", sent=sent, messages=1, memory=memory
    )
    problem: dict[str, JsonValue] = {
        "T": 4096 * ranks,
        "D": 8,
        "F": 4,
        "E": 16,
        "K": 2,
        "ranks": ranks,
        "dtype": "bfloat16",
    }
    return Prediction(
        schema_version=1,
        series="a layer",
        machine="a cluster",
        ranks=ranks,
        ranks_per_node=8,
        group=ranks,
        key="key",
        problem={**problem, "mode": "train", "router": "switch", "load": "uniform", "capacity_factor": 1.25},
        dispatcher=dispatcher,
        wire="float8_e4m3fn",
        chunks=2,
        expected=expected,
        moebench="0.1.0",
        time="2026-03-01T10:00:00Z",
    )


def printed(predictions: list[Prediction]) -> list[str]:
    console = Console(width=200, file=io.StringIO(), record=True, color_system=None, highlight=False)
    for part in prediction_table(predictions):
        console.print(part)
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_the_layer_is_described_with_its_tokens_on_each_rank() -> None:
    lines = printed([predicted("alltoall", 8, 0.01)])
    assert lines[0].startswith(
        "a training step of one layer, D=8 F=4 E=16 K=2, 4\u202f096 tokens a rank, bfloat16, rows"
    )
    assert lines[0].endswith("float8_e4m3fn, router switch, load uniform, capacity factor 1.25, in 2 chunks")


def test_every_dispatcher_is_set_beside_the_fastest_that_fits() -> None:
    lines = printed(
        [
            predicted("alltoall", 8, 0.01),
            predicted("allgather", 8, 0.005, held_gib=9),
            predicted("hierarchical", 8, 0.011),
            predicted("hierarchical", 16, 0.01),
        ]
    )
    (first,) = (line for line in lines if "alltoall" in line and "products" in line)
    assert "fastest" in first
    assert any("too large" in line for line in lines)
    assert any("+10.0 %" in line for line in lines)
    assert lines[-1] == "fastest: alltoall on 8 ranks, hierarchical on 16 ranks"


def test_of_nearly_equal_predictions_the_first_is_the_fastest() -> None:
    first, second = predicted("a", 8, 0.01001), predicted("b", 8, 0.01)
    assert fastest([first, second]) is first
    assert fastest([predicted("a", 8, 0.0101), second]) is second
    assert fastest([predicted("a", 8, 0.01, held_gib=9)]) is None
