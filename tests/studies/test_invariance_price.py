"""Price of one configuration for every number of tokens: nothing where it is the default, and never below the best."""

from __future__ import annotations

import invariance_price
import pytest
from invariance_price import prices

from moebench.kernels.problem import Problem
from moebench.kernels.tuned.every_batch import ROWS
from moebench.kernels.tuned.lookup import FOLDER

WIDE = Problem(T=1, D=1024, F=2048, E=4, K=2, dtype="bfloat16")


@pytest.fixture(autouse=True)
def no_tables(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path_factory.mktemp("tables")))


def test_it_costs_nothing_where_experts_have_many_rows() -> None:
    chosen, best = prices(WIDE, "sm_90", (1, ROWS * WIDE.E // WIDE.K))
    few, many = chosen.ratios
    assert many == pytest.approx(1)
    assert few > many
    assert best.worst <= chosen.worst


def test_an_unknown_target_is_refused() -> None:
    with pytest.raises(SystemExit, match="no target is named sm_9: give one of sm_80, sm_90"):
        invariance_price.main(["sm_9"])
