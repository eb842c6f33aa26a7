"""Sinkhorn's choices are those of a plain loop, and are more even than the largest logits."""

from __future__ import annotations

import math

import pytest
import torch

from moebench.kernels.problem.draw_routes import routed
from moebench.kernels.problem.router import Router, RouterInputs


def balanced(z: list[list[float]], rounds: int) -> list[list[float]]:
    """Scale columns and rows of exp(z) in turn, one number after the other."""
    matrix = [[math.exp(value) for value in row] for row in z]
    for _ in range(rounds):
        sums = [sum(column) for column in zip(*matrix, strict=True)]
        matrix = [[value / total for value, total in zip(row, sums, strict=True)] for row in matrix]
        matrix = [[value / sum(row) for value in row] for row in matrix]
    return matrix


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("gate", ["sigmoid", "softmax"])
def test_choices_and_gates_are_those_of_a_plain_loop(gate: str, seed: int) -> None:
    logits_TE = torch.randn(24, 6, generator=torch.Generator().manual_seed(seed)) + torch.arange(6) / 2
    routing = routed(f"sinkhorn:gate={gate},tolerance=1e-12,rounds=200", logits_TE, 2)
    expected = [sorted(range(6), key=lambda e: -row[e])[:2] for row in balanced(logits_TE.tolist(), 200)]
    assert routing.ids_TK.tolist() == expected
    scores_TE = logits_TE.sigmoid() if gate == "sigmoid" else logits_TE.softmax(-1)
    torch.testing.assert_close(routing.gates_TK, scores_TE.gather(1, routing.ids_TK.long()))


def test_skewed_logits_give_nearly_even_counts() -> None:
    logits_TE = torch.randn(512, 8, generator=torch.Generator().manual_seed(0)) + torch.arange(8)
    even, skewed = (routed(name, logits_TE, 1).counts_E() for name in ("sinkhorn", "switch"))
    assert even.max() < 2 * 512 / 8 < skewed.max()


def test_a_balanced_matrix_has_equal_columns() -> None:
    logits_TE = torch.randn(64, 4, generator=torch.Generator().manual_seed(0)) * 2
    router = Router.parse("sinkhorn:tolerance=1e-12,rounds=1000")
    matrix_TE = router.balance(logits_TE).softmax(-1)  # type: ignore[attr-defined]
    torch.testing.assert_close(matrix_TE.sum(0), torch.full((4,), 16.0).double())
    assert torch.equal(router.route(RouterInputs(logits_TE=logits_TE), 1)[0][:, 0], matrix_TE.argmax(-1).int())
