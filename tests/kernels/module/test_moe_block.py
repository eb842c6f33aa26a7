"""The block with a router: its routes, its experts and what is beside them, against transformers and plain formulas."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from moebench.kernels.module.moe_block import MoEBlock
from moebench.kernels.problem.balance.router_losses import load_balancing_loss
from moebench.kernels.problem.draw_routes import routed
from moebench.kernels.problem.router import ROUTERS

SIZES = {"D": 16, "F": 12, "E": 6, "K": 2}


def made(**changes: object) -> MoEBlock:
    torch.manual_seed(0)
    return MoEBlock(**SIZES | changes)  # type: ignore[arg-type]  # checked by the block


def tokens(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_loop(block: MoEBlock, x_TD: Tensor) -> Tensor:
    """Compute the experts of each token one at a time in float64."""
    routing = block.route(x_TD).routing
    up, down = (tensor.double() for tensor in (block.experts.weights.w_up_EUD, block.experts.weights.w_down_EDF))
    rows = []
    for x, ids, gates in zip(x_TD.double(), routing.ids_TK.tolist(), routing.gates_TK.double(), strict=True):
        y = torch.zeros_like(x)
        for e, gate in zip(ids, gates, strict=True):
            if e >= 0:
                half, other = (up[e] @ x).chunk(2)
                y = y + gate * (down[e] @ (functional.silu(half) * other))
        rows.append(y)
    return torch.stack(rows)


@pytest.mark.parametrize(
    "router", ["softmax_topk", "softmax_topk_renorm", "sigmoid_topk:groups=3,top_groups=2,scale=2.5"]
)
def test_a_block_is_its_router_s_choice_of_its_experts(router: str) -> None:
    block, x_TD = made(router=router), tokens(9, 16)
    expected = routed(router, x_TD @ block.router["weight"].T, 2)
    found = block.route(x_TD).routing
    assert torch.equal(found.ids_TK, expected.ids_TK)
    torch.testing.assert_close(found.gates_TK, expected.gates_TK)
    torch.testing.assert_close(block(x_TD).double(), by_loop(block, x_TD), rtol=1e-4, atol=1e-5)
    assert block(x_TD.view(3, 3, 16)).shape == (3, 3, 16)


def test_it_equals_a_mixtral_block_of_transformers_with_the_same_weights() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.MixtralConfig(
        hidden_size=16, intermediate_size=12, num_local_experts=6, num_experts_per_tok=2
    )
    torch.manual_seed(0)
    theirs = transformers.models.mixtral.modeling_mixtral.MixtralSparseMoeBlock(config).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ours = made(router="softmax_topk_renorm")
    with torch.no_grad():
        ours.router["weight"].copy_(theirs.gate.weight)
        ours.experts.weights.w_up_EUD.copy_(theirs.experts.gate_up_proj)
        ours.experts.weights.w_down_EDF.copy_(theirs.experts.down_proj)
    x = tokens(2, 5, 16)
    expected = theirs(x)
    torch.testing.assert_close(ours(x), expected[0] if isinstance(expected, tuple) else expected, rtol=1e-4, atol=1e-5)


def test_a_shared_expert_and_a_latent_width_lie_around_the_experts() -> None:
    x_TD = tokens(7, 16)
    shared = made(block="shared:width=5,sigmoid=true")
    own = shared.around
    assert sorted(own) == ["layer_gate", "layer_mlp_down", "layer_mlp_up"]
    half, other = (x_TD @ own["layer_mlp_up"].T).chunk(2, -1)
    beside_TD = (functional.silu(half) * other) @ own["layer_mlp_down"].T * (x_TD @ own["layer_gate"].T).sigmoid()
    torch.testing.assert_close(shared(x_TD).double(), by_loop(shared, x_TD) + beside_TD.double(), rtol=1e-4, atol=1e-5)
    latent = made(block="latent:width=8")
    assert latent.experts.problem.D == 8
    assert latent.route(x_TD).inputs.logits_TE.shape == (7, 6), "the router sees the whole width"
    assert latent(x_TD).shape == (7, 16)


def test_zero_experts_return_their_share_of_the_token() -> None:
    block, x_TD = made(router="softmax_topk:zero_experts=6", K=4), tokens(20, 16)
    inputs, routing = block.route(x_TD)
    assert (routing.ids_TK == -1).any()
    probability_TE = inputs.logits_TE.softmax(-1)
    chosen_TK = probability_TE.topk(4).indices
    zero_T = (probability_TE.gather(1, chosen_TK) * (chosen_TK >= 6)).sum(1)
    expected = by_loop(block, x_TD) + (zero_T[:, None] * x_TD).double()
    torch.testing.assert_close(block(x_TD).double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ROUTERS.names())
def test_a_block_learns_with_every_router(name: str) -> None:
    """The loss of a small regression falls, and a frozen parameter stays."""
    sizes = {"mixture_of_depths": {"E": 1, "K": 1}, "switch": {"K": 1}, "base": {"K": 1}, "frozen_lookup": {"K": 1}}
    spec = "token_rounding:tile=8" if name == "token_rounding" else name
    block = made(router=spec, **sizes.get(name, {}))
    x_TD, target_TD = tokens(48, 16), tokens(48, 16, seed=2)
    token_T = torch.arange(48) % 7
    before = {key: value.detach().clone() for key, value in block.named_parameters()}
    optimiser = torch.optim.Adam([one for one in block.parameters() if one.requires_grad], lr=1e-2)
    losses = []
    for _ in range(25):
        optimiser.zero_grad()
        loss = (block(x_TD, token_T) - target_TD).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.97 * losses[0]
    for key, value in block.named_parameters():
        assert torch.equal(value, before[key]) == (not value.requires_grad)


def test_losses_of_the_logits_reach_the_router() -> None:
    block, x_TD = made(router="softmax_topk"), tokens(32, 16)
    inputs, routing = block.route(x_TD)
    load_balancing_loss(inputs.logits_TE.softmax(-1), routing.ids_TK).backward()
    assert block.router["weight"].grad is not None
    assert block.router["weight"].grad.abs().sum() > 0


def test_biases_move_against_the_load_and_are_kept_with_the_state() -> None:
    block, x_TD = made(router="sigmoid_topk", K=1), tokens(64, 16)
    assert block.selection_bias is not None
    before = block.route(x_TD).routing.counts_E()
    for _ in range(400):
        block.update_biases(block.route(x_TD).routing, rate=2e-3)
    after = block.route(x_TD).routing.counts_E()
    assert int(after.max()) < int(before.max())
    assert int(after.max() - after.min()) <= 6
    assert "selection_bias" in block.state_dict()
    with pytest.raises(ValueError, match="'switch' selects without biases: give one that has them"):
        made(router="switch", K=1).update_biases(block.route(x_TD).routing)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"router": "swich"}, "did you mean switch"),
        ({"router": "switch"}, "takes one expert per token, not K = 2: give K = 1"),
        ({"K": 7}, "K = 7 experts per token, but only E = 6"),
        ({"block": "soft_moe", "K": 1}, "has its own routes in place of a router"),
        ({"block": "moa", "activation": "identity", "gated": False}, "no experts whose outputs are added up"),
        ({"dispatch": "scater"}, "did you mean scatter"),
    ],
)
def test_what_a_block_cannot_be_is_refused_with_the_remedy(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        made(**changes)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # by torch.compile
@pytest.mark.parametrize("router", ["base", "sigmoid_topk"])
def test_a_compiled_block_chooses_and_learns_as_it_does_without(router: str) -> None:
    block, x_TD = made(router=router, K=1), tokens(8, 16)
    torch.compiler.reset()
    found, expected = (
        (y_TD.detach(), *torch.autograd.grad(y_TD.square().sum(), list(block.parameters())))
        for y_TD in (torch.compile(block, backend="eager")(x_TD), block(x_TD))
    )
    torch.compiler.reset()
    torch.testing.assert_close(found, expected)


OF_TOKEN_IDS = ["hash", "hash:table=balanced", "hash:gates=sigmoid", "frozen_lookup"]


def of_token_ids(router: str) -> MoEBlock:
    return made(router=router, K=1 if router == "frozen_lookup" else 2)


@pytest.mark.parametrize("router", OF_TOKEN_IDS)
def test_a_router_of_token_ids_asks_for_one_of_every_token(router: str) -> None:
    block, x_TD = of_token_ids(router), tokens(4, 16)
    with pytest.raises(ValueError, match="chooses by token ids: give 4 of them, int64, one for each token"):
        block(x_TD)
    for ids, said in (
        (torch.arange(3), r"are torch.int64 \(3,\): give 4"),
        (torch.ones(4), r"are torch.float32 \(4,\): give 4"),
        (torch.ones(4) > 0, r"are torch.bool \(4,\): give 4"),
    ):
        with pytest.raises(ValueError, match=said):
            block(x_TD, ids)
    assert block(x_TD, torch.tensor([3, 1, 3, 2])).shape == (4, 16)


@pytest.mark.parametrize("router", OF_TOKEN_IDS)
def test_ids_of_any_vocabulary_have_experts(router: str) -> None:
    block, x_TD = of_token_ids(router), tokens(5, 16)
    found = block.route(x_TD, torch.tensor([5, 5 + 32768, 151_935, 2**40 + 5, -100])).routing.ids_TK
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[3])
    assert found.min() >= 0
    assert torch.equal(block.route(x_TD[:1], torch.tensor([5], dtype=torch.int32)).routing.ids_TK[0], found[0])
