"""Texts are read in steps with a context of their own, and what a model cannot read is said with the remedy."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from moebench.kernels.module.route_recorder import NothingToRecord, find_routers
from moebench.kernels.module.text_recording import CannotLoad, run_steps, steps_of


class Experts(nn.Module):
    """Experts as transformers has them, which return nothing of use."""

    num_experts = 4

    def forward(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        return hidden_states * top_k_weights.sum() * top_k_index.sum()


class Model(nn.Module):
    """Model of one layer whose tokens choose by their ids."""

    device = torch.device("cpu")

    def __init__(self, positions: int | None = None) -> None:
        super().__init__()
        self.experts = Experts()
        self.read: list[list[int]] = []
        text = SimpleNamespace(max_position_embeddings=positions)
        self.config = SimpleNamespace(is_encoder_decoder=False, get_text_config=lambda: text)

    def forward(self, input_ids: Tensor, *, use_cache: bool) -> None:
        assert not use_cache
        self.read.append(input_ids[0].tolist())
        if input_ids.max() > 90:
            raise RuntimeError("shapes\nare wrong. Look them up")
        ids_TK = torch.stack((input_ids[0] % 4, (input_ids[0] + 1) % 4), 1)
        self.experts(torch.ones(len(ids_TK), 1), top_k_weights=ids_TK + 0.5, top_k_index=ids_TK)


@pytest.mark.parametrize(
    ("positions", "asked", "lengths"),
    [(None, None, [1024, 76]), (512, None, [512, 512, 76]), (9999, None, [1024, 76]), (512, 600, [600, 500])],
)
def test_a_step_is_as_long_as_asked_or_as_the_model_has_positions(
    positions: int | None, asked: int | None, lengths: list[int]
) -> None:
    assert [len(step) for step in steps_of(torch.arange(1100), Model(positions), asked)] == lengths


def test_steps_are_read_in_their_order_and_noted_with_arguments_by_name() -> None:
    model = Model()
    routers = find_routers(model)
    assert list(run_steps(model, torch.arange(10).split(4), routers)) == [4, 8, 10]
    assert model.read == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    routes = routers[0].routes()
    assert routes.layer.steps == (4, 4, 2)
    assert routes.ids_TK.tolist() == [[token % 4, (token + 1) % 4] for token in range(10)]
    assert routes.gates_TK is not None
    assert routes.gates_TK.tolist() == [[token % 4 + 0.5, (token + 1) % 4 + 0.5] for token in range(10)]


def test_a_forward_that_fails_is_one_sentence_and_leaves_no_hook() -> None:
    model = Model()
    routers = find_routers(model)
    with pytest.raises(CannotLoad) as caught:
        list(run_steps(model, torch.tensor([1, 91]).split(2), routers))
    assert str(caught.value) == (
        "Model cannot read 2 tokens of text alone (RuntimeError, shapes are wrong): give a language model, or a "
        "shorter --context"
    )
    model(torch.tensor([[1]]), use_cache=False)
    assert not routers[0].steps


def test_experts_that_do_not_say_how_many_they_are_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Experts, "num_experts")
    model: Any = Model()
    with pytest.raises(NothingToRecord, match="Experts at experts does not say how many experts it has"):
        list(run_steps(model, torch.arange(4).split(4), find_routers(model)))
