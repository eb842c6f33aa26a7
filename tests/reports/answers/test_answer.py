"""The answer says what the numbers support, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from moebench.reports.answers.answer import Answer, answer
from moebench.reports.section import sections
from moebench.results.record import Invariance, Record, Sameness, Status

Make = Callable[..., Record]
NOISY = [0.8, 0.9, 1.0, 1.1, 1.2]


def _answer(records: list[Record]) -> Answer:
    (section,) = sections(records)
    return answer(section)


def test_the_winner_is_counted_over_the_points_and_set_against_the_baseline(make: Make) -> None:
    times = {"loop": (4.0, 8.0, 8.0), "scatter": (1.0, 2.0, 8.5), "padded": (2.0, 4.0, 4.0)}
    records = [make(kernel, x=float(x), ms=ms[x], noise=0) for kernel, ms in times.items() for x in range(3)]
    assert _answer(records).sentence == (
        "scatter is fastest at 2 of 3 points and padded at 1; the baseline loop takes 2.00× to 4.00× the fastest time."
    )


def test_overlap_is_a_tie_and_no_win(make: Make) -> None:
    records = [make("a", ms=NOISY), make("b", ms=[one * 1.01 for one in NOISY]), make("loop", ms=50.0)]
    sentence = _answer(records).sentence
    assert sentence.startswith("No kernel is fastest alone: a and b are tied at the one point compared;")


def test_wins_and_ties_are_counted_apart(make: Make) -> None:
    records = [make("a", x=1.0, ms=1.0), make("b", x=1.0, ms=2.0), make("a", x=2.0, ms=NOISY)]
    records += [make("b", x=2.0, ms=[one * 1.01 for one in NOISY]), make("loop", x=1.0, ms=9.0)]
    assert _answer(records).sentence == (
        "a is fastest at 1 of 2 points, with a and b tied at 1; "
        "the baseline loop takes 9.00× the fastest time at the 1 point it passed."
    )


def test_a_baseline_that_nothing_beats_is_said_to_be_so(make: Make) -> None:
    records = [make("loop", ms=1.0), make("scatter", ms=2.0)]
    assert _answer(records).sentence.endswith("; nothing is faster than the baseline loop.")


def test_a_baseline_without_a_time_is_no_ratio(make: Make) -> None:
    records = [make("a", ms=1.0), make("b", ms=2.0), make("loop", status=Status.wrong)]
    assert _answer(records).sentence.endswith("; the baseline loop passed nowhere.")


def test_no_passed_record_no_answer(make: Make) -> None:
    records = [make("loop", status=Status.crashed), make("a", status=Status.crashed), make("dense")]
    assert _answer(records) == Answer("No competing kernel passed: 2 crashed.", [])


def test_a_point_where_one_passed_is_no_contest(make: Make) -> None:
    records = [make("a", x=1.0, ms=1.0), make("loop", x=1.0, ms=2.0), make("a", x=2.0)]
    records.append(make("loop", x=2.0, status=Status.timeout))
    found = _answer(records)
    assert found.sentence.startswith("a is fastest at the one point compared;")
    assert "At 1 of 2 points only one kernel passed, which is no contest." in found.details


def test_a_suite_of_one_kernel_compares_nothing(make: Make) -> None:
    records = [make("alltoall", x=float(ranks), baseline="alltoall") for ranks in (1, 2)]
    assert _answer(records).sentence == "alltoall was measured alone and passed at 2 of 2 points."


def test_two_kernels_that_never_meet_are_not_compared(make: Make) -> None:
    records = [make("a", x=1.0), make("loop", x=2.0)]
    assert _answer(records).sentence == (
        "No point has two kernels that passed, so nothing is compared; times exist for a and loop only."
    )


def test_the_reference_is_a_rate_and_not_a_rival(make: Make) -> None:
    dense = make("dense", ms=1.0, noise=0, problem={"T": 8192, "E": 1, "K": 1})
    found = _answer([make("a", ms=2.0, noise=0), make("loop", ms=4.0, noise=0), dense])
    assert found.sentence.startswith("a is fastest at the one point compared;")
    assert found.details[0] == "The fastest reaches 50.0 % of the rate of one dense expert of the same size (dense)."


def test_every_reference_has_its_sentence_the_stricter_first(make: Make) -> None:
    one_expert = {"T": 8192, "E": 1, "K": 1}
    references = [make(name, ms=ms, noise=0, problem=one_expert) for name, ms in (("dense", 1.0), ("matmul", 0.8))]
    found = _answer([make("a", ms=2.0, noise=0), make("loop", ms=4.0, noise=0), *references])
    assert found.details[:2] == [
        "The fastest reaches 40.0 % of the rate of one plain matmul of the same FLOPs (matmul).",
        "The fastest reaches 50.0 % of the rate of one dense expert of the same size (dense).",
    ]


def test_dropping_rows_earns_no_share_of_the_reference(make: Make) -> None:
    dense = make("dense", ms=1.0, noise=0, problem={"T": 8192, "E": 1, "K": 1})
    found = _answer([make("a", ms=1.0, noise=0, kept=0.5), make("loop", ms=4.0, noise=0), dense])
    assert found.details[0].startswith("The fastest reaches 50.0 % ")


def test_the_nearest_to_the_bound_is_named_with_its_place(make: Make) -> None:
    found = _answer([make("a", x=1.0, ms=1.0), make("a", x=2.0, ms=4.0), make("loop", x=1.0, ms=9.0)])
    assert any("bound is a at small · tokens = 1 · bfloat16 · forward: " in detail for detail in found.details)


def test_growth_is_told_from_the_first_to_the_last_number(make: Make) -> None:
    records = [make(kernel, x=x, ms=ms, noise=0) for kernel in ("a", "b") for x, ms in ((1.0, 1.0), (8.0, 4.0))]
    records += [make(kernel, x="all", ms=100.0) for kernel in ("a", "b")]
    grown = "From tokens = 1 to 8, the fastest time goes from 1.00 ms to 4.00 ms (4.00×)."
    assert grown in _answer(records).details


def test_growth_over_several_lines_is_a_range(make: Make) -> None:
    records = [
        make(series=series, x=x, ms=ms, noise=0)
        for series, times in (("s", (1.0, 2.0)), ("t", (1.0, 3.0)))
        for x, ms in zip((1.0, 8.0), times, strict=True)
    ]
    grown = "From the first to the last point along tokens, the fastest time changes by a factor of 2.00 to 3.00"
    assert f"{grown} on 2 lines." in _answer(records).details


@pytest.mark.parametrize(
    ("statuses", "sentence"),
    [
        ([], "All 2 trials passed."),
        ([Status.unsupported], "None of 3 trials failed; 1 was refused as unsupported."),
        ([Status.out_of_memory], "None of 3 trials failed; 1 ran out of memory."),
        ([Status.wrong, Status.wrong, Status.timeout], "3 of 5 trials failed (2 wrong, 1 timeout)."),
        (
            [Status.crashed, Status.out_of_memory, Status.unsupported, Status.unsupported],
            "1 of 6 trials failed (1 crashed); 1 ran out of memory; 2 were refused as unsupported.",
        ),
    ],
)
def test_failures_are_counted_by_status_and_refusals_are_none(
    make: Make, statuses: list[Status], sentence: str
) -> None:
    records = [make("a", ms=1.0), make("loop", ms=2.0)]
    records += [make(f"other{number}", status=status) for number, status in enumerate(statuses)]
    assert _answer(records).details[-1] == sentence


def test_dropped_rows_are_mentioned(make: Make) -> None:
    found = _answer([make("a", x=1.0, kept=0.75), make("a", x=2.0), make("loop", x=1.0, ms=9.0, kept=0.75)])
    assert "The capacity drops 0 % to 25.0 % of the routed rows." in found.details


SAME, OBSERVED = Sameness(guaranteed=True), Sameness(guaranteed=False)
ROUNDED = Sameness(guaranteed=False, differs="token 3", token=3, where="alone", tokens=1, distance=1e-7)
CHANGED = ROUNDED.model_copy(update={"distance": 1.0, "beyond_rounding": 7})


def _compared(record: Record, kept: Sameness, repeat: Sameness = OBSERVED) -> Record:
    found = Invariance(repeat=repeat, batch=kept, alone=kept, order=kept)
    return record.model_copy(update={"invariance": found})


def test_bits_are_summed_up_by_how_much_a_token_depends_on_its_batch(make: Make) -> None:
    records = [_compared(make("a"), SAME), _compared(make("b"), OBSERVED), _compared(make("c"), ROUNDED, ROUNDED)]
    records += [_compared(make(name), ROUNDED) for name in "defg"]
    records += [_compared(make("a", x=2.0, problem={"capacity_factor": 1.0}), CHANGED)]
    assert _answer(records).sentence == (
        "From batch to batch a token's result is, without a capacity, the same by construction with a, the same as far "
        "as was observed with b, rounded differently with c, d, e and 2 others; with a capacity, changed by the other "
        "tokens with a. Two runs differ with c."
    )


def test_bits_of_routers_are_summed_up_by_router(make: Make) -> None:
    records = [_compared(make("a"), SAME)]
    for x, (router, found) in enumerate({"switch": OBSERVED, "base": CHANGED, "hash": OBSERVED}.items()):
        records.append(_compared(make("router_alone", x=float(x), problem={"router": router}), found))
    assert (
        "without a capacity, the same by construction with a; of the router alone, the same as far as was "
        "observed with hash and switch, changed by the other tokens with base."
    ) in _answer(records).sentence


@pytest.mark.parametrize(
    ("status", "second"),
    [
        (Status.disturbed, "No competing kernel passed: 1 disturbed."),
        (Status.passed, "a was measured alone and passed at 1 of 1 point."),
    ],
)
def test_bits_are_the_answer_before_any_time(make: Make, status: Status, second: str) -> None:
    found = _answer([_compared(make("a", status=status), SAME)])
    assert found.sentence == (
        "From batch to batch a token's result is, without a capacity, the same by construction with a. "
        "Two runs never differ."
    )
    assert found.details[0] == second


def test_nothing_is_said_of_bits_that_were_not_compared(make: Make) -> None:
    found = _answer([make()])
    assert not any("From batch" in one for one in (found.sentence, *found.details))


def test_the_share_of_a_part_is_the_answer_where_no_layers_compete(make: Make) -> None:
    records = [make("scatter", x=1.0, ms=10.0, noise=0), make("router_alone", x=1.0, ms=0.5, noise=0)]
    assert _answer(records).sentence == "The router alone takes 5.00 % of the time of the fastest layer."
    contested = _answer([*records, make("padded", x=1.0, ms=20.0, noise=0)])
    assert contested.sentence.startswith("scatter is fastest at the one point compared")
    assert contested.details[0] == "The router alone takes 5.00 % of the time of the fastest layer."
