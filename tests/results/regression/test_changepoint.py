"""Change points are found in series whose changes are known, and none in series without any."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moebench.results.regression.changepoint import LEAST, changes

# Annual flow of the Nile at Aswan, 1871 to 1970, 10^8 m³ (Cobb 1978, Biometrika 65; public domain).
NILE = """
1120 1160  963 1210 1160 1160  813 1230 1370 1140  995  935 1110  994 1020  960 1180  799  958 1140
1100 1210 1150 1250 1260 1220 1030 1100  774  840  874  694  940  833  701  916  692 1020 1050  969
 831  726  456  824  702 1120 1100  832  764  821  768  845  864  862  698  845  744  796 1040  759
 781  865  845  944  984  897  822 1010  771  676  649  846  812  742  801 1040  860  874  848  890
 744  749  838 1050  918  986  797  923  975  815 1020  906  901 1170  912  746  919  718  714  740
"""


def test_the_nile_carries_less_water_from_1899_on() -> None:
    flow = [float(value) for value in NILE.split()]
    assert len(flow) == 100
    assert [1871 + change.at for change in changes(flow)] == [1899]


@pytest.mark.parametrize("seed", range(5))
def test_steps_of_three_times_the_noise_are_found_where_they_are(seed: int) -> None:
    """A step up after 20 values, one down again after 15, and one further down: to the value, but for one."""
    generator = np.random.default_rng(seed)
    levels = np.repeat([0.0, 0.03, 0.0, -0.05], [20, 15, 20, 10])
    found = [change.at for change in changes((levels + generator.normal(0, 0.01, levels.size)).tolist())]
    assert len(found) == 3
    assert np.abs(np.subtract(found, [20, 35, 55])).max() <= 1


def test_what_goes_and_comes_back_is_found() -> None:
    """Eight values of forty, in the middle, where a single split would set them against both ends."""
    generator = np.random.default_rng(0)
    levels = np.repeat([0.0, 0.05, 0.0], [16, 8, 16])
    found = [change.at for change in changes((levels + generator.normal(0, 0.01, levels.size)).tolist())]
    assert found == [16, 24]


@pytest.mark.parametrize("draw", ["normal", "standard_cauchy"])
def test_a_series_without_changes_has_none_but_once_in_a_hundred(draw: str) -> None:
    """Also where outliers are the rule; 4 of 60 would come three times in a thousand studies like this one."""
    generator = np.random.default_rng(1)
    assert sum(bool(changes(getattr(generator, draw)(size=24).tolist())) for _ in range(60)) <= 3


def test_an_outlier_is_no_change() -> None:
    generator = np.random.default_rng(0)
    series = generator.normal(0, 0.01, 30)
    series[12] += 0.5
    assert changes(series.tolist()) == []


@pytest.mark.parametrize("count", range(2 * LEAST))
def test_what_is_too_short_to_split_has_no_changes(count: int) -> None:
    assert changes([float(value) for value in range(count)]) == []


@settings(max_examples=20)
@given(values=st.lists(st.floats(-1e6, 1e6), max_size=16))
def test_changes_leave_stretches_between_them(values: list[float]) -> None:
    """Whatever the series, constant ones too; and the same ones every time."""
    found = changes(values)
    edges = [0, *(change.at for change in found), len(values)]
    assert not found or min(np.diff(edges)) >= LEAST
    assert all(0 < change.p <= 0.01 for change in found)
    assert changes(values) == found


def test_a_constant_series_has_no_changes() -> None:
    assert changes([3.0] * 40) == []
