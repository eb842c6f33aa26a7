"""Mixes of traffic: what is read, what is refused, and that shares add up to one."""

from __future__ import annotations

import contextlib
import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moebench.common.errors import UserError
from moebench.suites.advice.traffic_mix import InvalidTraffic, PhaseName, parse_traffic

CALLS = st.lists(
    st.tuples(st.sampled_from(get_args(PhaseName)), st.integers(1, 10**9), st.integers(1, 1000)),
    min_size=1,
    max_size=6,
    unique_by=lambda call: call[:2],
)


@given(CALLS)
def test_what_is_written_is_read_and_shares_add_up_to_one(calls: list[tuple[PhaseName, int, int]]) -> None:
    total = sum(weight for *_, weight in calls)
    found = parse_traffic(",".join(f"{name}:{tokens}={weight / total!r}" for name, tokens, weight in calls))
    assert [(one.name, one.tokens) for one in found] == [call[:2] for call in calls]
    assert math.fsum(one.share for one in found) == pytest.approx(1, abs=1e-12)
    for one, (*_, weight) in zip(found, calls, strict=True):
        assert one.share == pytest.approx(weight / total)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(UserError):
        assert math.fsum(one.share for one in parse_traffic(text)) == pytest.approx(1)


def test_spaces_and_capitals_do_not_matter_and_a_share_of_all_may_be_left_out() -> None:
    assert parse_traffic(" Decode : 64 = 0.9 , PREFILL:8192=.1") == parse_traffic("decode:64=0.9,prefill:8192=0.1")
    (only,) = parse_traffic("train:4096")
    assert (only.name, only.tokens, only.share, only.mode) == ("train", 4096, 1.0, "train")


def test_the_rounding_of_shares_is_divided_among_them() -> None:
    found = parse_traffic("decode:1=0.3333,decode:2=0.3333,decode:4=0.3333")
    assert [one.share for one in found] == [pytest.approx(1 / 3)] * 3


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("decode:64=0.9", "the shares add up to 0.9, not to 1: give decode:64=1"),
        ("decode:64=0.5,prefill:8192=0.25", "give decode:64=0.666667,prefill:8192=0.333333"),
        ("decode:64=0.9,prefill:8192=0.2", "the shares add up to 1.1"),
        ("decode:64=much", "'much' is no share: give a number above 0 and at most 1"),
        ("decode:64=nan", "'nan' is no share"),
        ("decode:64=inf", "'inf' is no share"),
        ("decode:64=-0.5,prefill:8192=1.5", "'-0.5' is no share"),
        ("decode:64=0,prefill:8192=1", "'0' is no share"),
        ("decode:64=", "'' is no share"),
        ("decode:0=1", "'0' is no number of tokens: give a positive integer of at most 18 digits"),
        ("decode:6.4=1", "'6.4' is no number of tokens"),
        ("decode:-1=1", "'-1' is no number of tokens"),
        (f"decode:{'9' * 5000}", "is no number of tokens"),
        ("decode=1", "'decode=1' is no PHASE:TOKENS=SHARE: give decode:64=0.9,prefill:8192=0.1"),
        ("decode:64,prefill:8192", "'decode:64' is no PHASE:TOKENS=SHARE"),
        ("", "'' is no PHASE:TOKENS=SHARE"),
        ("decode:64=0.5,", "'' is no PHASE:TOKENS=SHARE"),
        ("decoding:64=1", "no phase is named 'decoding': did you mean decode"),
        ("decode:64=0.5,decode:064=0.5", "decode:64 is there twice: add its shares up to one"),
    ],
)
def test_what_is_no_mix_is_refused_with_the_remedy(text: str, remedy: str) -> None:
    with pytest.raises(UserError) as refused:
        parse_traffic(text)
    assert remedy in str(refused.value)
    assert "\n" not in str(refused.value)


@given(CALLS)
def test_the_shares_that_a_refusal_gives_are_read(calls: list[tuple[PhaseName, int, int]]) -> None:
    with pytest.raises(InvalidTraffic) as refused:
        parse_traffic(",".join(f"{name}:{tokens}={weight / 6001!r}" for name, tokens, weight in calls))
    _, _, remedy = str(refused.value).rpartition("give ")
    assert [(one.name, one.tokens) for one in parse_traffic(remedy)] == [call[:2] for call in calls]
