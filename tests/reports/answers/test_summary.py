"""The summary names winners, phases, serving rates, and everything that failed or was disturbed, from records alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from moebench.reports.answers.summary import DECODE_TOKENS, Phase, Summary
from moebench.reports.report import Report
from moebench.results.record import Point, Record, Status

Make = Callable[..., Record]


def summary(*records: Record, price: float | None = None) -> Summary:
    return Summary(Report(records, price=price).sections)


@pytest.fixture
def pair(make: Make) -> Callable[..., list[Record]]:
    """Two kernels at one place, padded twice as fast as loop."""

    def made(T: int, mode: str = "forward", **others: object) -> list[Record]:
        problem = {"T": T, "mode": mode} | dict(others)
        return [make(kernel, x=float(T), ms=ms, problem=problem) for kernel, ms in (("padded", 1.0), ("loop", 2.0))]

    return made


def test_phases_are_told_apart_by_mode_and_tokens_of_a_rank(pair: Callable[..., list[Record]]) -> None:
    found = summary(
        *pair(DECODE_TOKENS), *pair(DECODE_TOKENS + 1), *pair(64, mode="train"), *pair(2 * DECODE_TOKENS, ranks=2)
    )
    phases = [(score.phase, score.tokens) for score in found.scorecard]
    assert phases == [(Phase.decode, str(DECODE_TOKENS)), (Phase.prefill, "513"), (Phase.training, "64")]
    assert all(score.winner.kernel == "padded" for score in found.scorecard)


def test_serving_shows_the_fastest_at_each_batch_size_without_drops(
    make: Make, pair: Callable[..., list[Record]]
) -> None:
    dropping = make("padded", x=64.0, ms=0.1, kept=0.5, problem={"T": 64, "capacity_factor": 1.0})
    (line,) = summary(*pair(64), *pair(256), dropping).serving
    assert {tokens: kernel for tokens, (_, kernel) in line.cells.items()} == {64: "padded", 256: "padded"}
    assert line.cells[256][0].startswith(("255", "256", "257"))


def test_one_batch_size_is_no_row_of_serving(pair: Callable[..., list[Record]]) -> None:
    assert summary(*pair(64)).serving == []


def test_costs_need_a_price(pair: Callable[..., list[Record]]) -> None:
    free, priced = summary(*pair(1000)), summary(*pair(1000), price=3.6)
    assert free.scorecard[0].costs == "–"
    # 1 ms for 1000 tokens is 1 s for a million, at 0.001 a second
    assert float(priced.scorecard[0].costs) == pytest.approx(0.001, rel=0.01)


def test_failures_and_disturbances_are_listed_apart_with_the_first_reason(make: Make) -> None:
    found = summary(
        make("loop"),
        make("padded", status=Status.wrong, reason="off by 1"),
        make("padded", x=2048.0, status=Status.wrong, reason="off by 2"),
        make("scatter", status=Status.disturbed, reason="others used the cores"),
        make("block_sparse", status=Status.unsupported, reason="no GPU"),
    )
    (failed,), (disturbed,) = found.failed, found.disturbed
    assert (failed.kernel, failed.count, failed.outcome, failed.reason) == ("padded", 2, "wrong", "off by 1")
    assert (disturbed.kernel, disturbed.reason) == ("scatter", "others used the cores")
    assert found.outcome == (
        "1 of 5 trials passed, 2 failed, 1 had no number because the machine was disturbed, "
        "1 had nothing to measure (unsupported, invalid or too large)."
    )


def test_a_search_is_no_contest_of_kernels(make: Make) -> None:
    one = make("padded")
    other = make("loop")
    searched = [
        kept.model_copy(update={"point": Point(**(kept.point.model_dump() | {"stage": "search", "batch": 1}))})
        for kept in (one, other)
    ]
    assert summary(*searched).scorecard == []


def test_no_records_have_an_empty_summary() -> None:
    found = summary()
    assert (found.results, found.scorecard, found.serving) == ([], [], [])
