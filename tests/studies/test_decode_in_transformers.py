"""The study of decoding compares implementations that compute the same, and `auto` leaves padding to many tokens."""

from __future__ import annotations

import pytest
import torch

from moebench.kernels.problem import Problem
from moebench.kernels.tuned.kept_rates import FOLDER
from moebench.kernels.tuned.select import choose

decode = pytest.importorskip("decode_in_transformers")


def test_all_implementations_compute_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in (("D", 16), ("F", 8), ("E", 4), ("K", 2)):
        monkeypatch.setattr(decode, name, size)
    module, found = decode.experts(torch.float32), []
    x_TD, ids_TK, gates_TK = torch.randn(3, 16), torch.tensor([[0, 1], [2, 1], [3, 0]]), torch.rand(3, 2)
    for name in ("moebench", *decode.OTHERS):
        module.config._experts_implementation = name
        found.append(module(x_TD, ids_TK, gates_TK))
    for one in found[1:]:
        torch.testing.assert_close(one, found[0])
    assert set(decode.seconds(module, 3, torch.float32, 1)) == {"moebench", *decode.OTHERS}


def test_a_line_has_the_others_times_over_ours() -> None:
    took = {"moebench": 2e-3, "eager": 3e-3, "grouped_mm": 1e-3}
    assert decode.line(4, "grouped", took) == "| 4 | `grouped` | 2.0 | 1.50 | 0.50 |"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("T", [1, 2, 4, 8])
def test_auto_does_not_read_the_weights_of_experts_without_rows(
    T: int, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In decoding most experts have no row, and a padded product reads the weights of all."""
    monkeypatch.setenv(FOLDER, "")
    problem = Problem(T=T, D=1024, F=512, E=32, K=4, dtype=dtype)  # type: ignore[arg-type]
    assert choose(problem, torch.device("cpu")).kernel.name in {"grouped", "loop", "scatter"}
