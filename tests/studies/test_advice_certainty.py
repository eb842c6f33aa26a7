"""Orders of dispatches that advice calls likely are those of the committed records, all but a few, and these nearly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest
from advice_certainty import Claim, by_interpolation, by_prediction, likely
from auto_regret import FILES, RECORDED

from moebench.results.record import Record
from moebench.results.record.store import load_all

Source = Callable[[Sequence[Record]], Iterator[Claim]]


@pytest.mark.parametrize(
    ("source", "least"), [(by_prediction, 200), (by_interpolation, 200)], ids=["predicted", "between"]
)
def test_an_order_that_is_called_likely_is_that_of_the_records(source: Source, least: int) -> None:
    claims = [claim for name in FILES for claim in source(load_all([RECORDED / name]).records)]
    found, right, loss = likely(claims)
    assert found >= least
    assert right / found >= 0.98
    assert loss < 0.15
