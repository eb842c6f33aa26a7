"""Routes of a model are recorded as its routers chose them, for every family of transformers with routed experts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from moebench.kernels.module.route_recorder import (
    ROUTERS_BY_CLASS,
    NothingToRecord,
    RecordedRouter,
    chosen_routers,
    find_routers,
    recording,
)
from moebench.kernels.problem.traces.trace_format import LayerRoutes, checked_gates, checked_ids

transformers: Any = pytest.importorskip("transformers")
from tiny_moe_models import families, tiny_model  # noqa: E402  # it wants transformers

TOKENS = 12
INLINE = {"dbrx"}
"""Families whose block chooses in code of its own: no module of theirs returns ids."""
UNCALLED = {"ernie4_5_vl_moe": ["layers.1.mlp.vision_moe.experts"]}
"""Experts that a text does not reach."""


def forward(model: Any, routers: list[RecordedRouter]) -> dict[str, list[Any]]:
    """Read a few tokens; return what every module returned that is a tuple of tensors, by name."""
    returned: dict[str, list[Any]] = {}

    def note(name: str) -> Any:
        def hook(_: Any, __: Any, output: Any) -> None:
            if isinstance(output, tuple) and all(isinstance(one, torch.Tensor) for one in output):
                returned.setdefault(name, []).append([one.clone() for one in output])

        return hook

    plain = [module.register_forward_hook(note(name)) for name, module in model.named_modules()]
    ids = torch.randint(1, 64, (1, TOKENS), generator=torch.Generator().manual_seed(1))
    more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    with torch.no_grad(), recording(routers):
        model(input_ids=ids, use_cache=False, **more)
    for handle in plain:
        handle.remove()
    return returned


def check(routes: LayerRoutes) -> None:
    assert routes.gates_TK is not None
    assert routes.ids_TK.shape == routes.gates_TK.shape
    assert routes.layer.steps == (TOKENS,)
    assert routes.layer.experts == 8
    np.testing.assert_array_equal(checked_ids(routes.ids_TK, 8), routes.ids_TK)
    checked_gates(routes.gates_TK, routes.ids_TK)
    assert len(np.unique(routes.ids_TK)) > 1


@pytest.mark.parametrize("family", families())
def test_every_family_is_recorded_as_its_router_returned(family: str) -> None:
    """Compare with a plain hook on all modules: one of them returned the recorded ids and their weights."""
    model = tiny_model(family)
    if family == "granite_docling":  # its router is of text lines, not of tokens
        with pytest.raises(NothingToRecord, match="has no routed experts that are called with ids and gate weights"):
            find_routers(model)
        return
    routers = find_routers(model)
    returned = forward(model, routers)
    found = [router.routes() for router in routers if router.steps]
    assert found
    assert [router.name for router in routers if not router.steps] == UNCALLED.get(family, [])
    for routes, router in zip(found, (one for one in routers if one.steps), strict=True):
        check(routes)
        if type(router.module).__name__ in ROUTERS_BY_CLASS:
            continue
        ids = torch.from_numpy(routes.ids_TK).long()
        gates = torch.from_numpy(routes.gates_TK)
        same = [
            name
            for name, outputs in returned.items()
            for output in outputs
            if any(_same_ids(one, ids) for one in output) and any(_same(one, gates) for one in output)
        ]
        assert bool(same) == (family not in INLINE), family


def _same_ids(one: torch.Tensor, ids: torch.Tensor) -> bool:
    """Compare but for experts that compute nothing, which are recorded as no route."""
    return one.shape == ids.shape and not one.is_floating_point() and torch.equal(one.where(one < 8, -1).long(), ids)


def _same(one: torch.Tensor, gates: torch.Tensor) -> bool:
    return one.shape == gates.shape and torch.equal(one.float(), gates)


def weights(routes: LayerRoutes) -> NDArray[np.float32]:
    assert routes.gates_TK is not None
    return routes.gates_TK


def recorded(family: str) -> tuple[list[LayerRoutes], dict[str, list[Any]], list[str]]:
    model = tiny_model(family)
    routers = find_routers(model)
    returned = forward(model, routers)
    return [one.routes() for one in routers], returned, [one.name for one in routers]


def test_llama4_weighs_by_the_sigmoid_of_the_largest_logits() -> None:
    found, returned, names = recorded("llama4")
    for routes, name in zip(found, names, strict=True):
        logits = returned[name][0][1]
        values, ids = logits.topk(2, dim=1)
        np.testing.assert_array_equal(routes.ids_TK, ids)
        np.testing.assert_allclose(weights(routes), values.sigmoid(), rtol=1e-6)


def test_dbrx_has_the_largest_probabilities_divided_by_their_sum() -> None:
    model = tiny_model("dbrx")
    routers = find_routers(model)
    logits: list[torch.Tensor] = []
    for name, module in model.named_modules():
        if name.endswith("router.layer"):
            module.register_forward_hook(lambda _, __, output: logits.append(output))
    forward(model, routers)
    assert len(logits) == len(routers) == 2
    for router, one in zip(routers, logits, strict=True):
        values, ids = one.reshape(TOKENS, 8).softmax(1).topk(2, dim=1)
        np.testing.assert_array_equal(router.routes().ids_TK, ids)
        np.testing.assert_allclose(weights(router.routes()), values / values.sum(1, keepdim=True), rtol=1e-5)


def test_jetmoe_has_the_routes_of_its_experts_and_of_its_attention() -> None:
    model = tiny_model("jetmoe")
    routers = find_routers(model)
    logits: dict[str, torch.Tensor] = {}
    for router in routers:
        linear: Any = router.module.layer
        linear.register_forward_hook(lambda _, __, output, name=router.name: logits.update({name: output.float()}))
    forward(model, routers)
    parts = ("mlp.router", "self_attention.experts.router")
    assert sorted(logits) == [f"layers.{layer}.{part}" for layer in (0, 1) for part in parts]
    for router in routers:
        values, ids = logits[router.name].topk(2, dim=1)
        np.testing.assert_array_equal(router.routes().ids_TK, ids)
        np.testing.assert_allclose(weights(router.routes()), values.softmax(1), rtol=1e-6)


def test_switch_has_no_route_where_an_expert_was_full() -> None:
    model = tiny_model("switch_transformers")
    for _, module in model.named_modules():
        if type(module).__name__ == "SwitchTransformersTop1Router":
            module.expert_capacity = 1
    routers = find_routers(model)
    returned = forward(model, routers)
    absent = 0
    for router in routers:
        logits = returned[router.name][0][2][0]
        probabilities, ids = logits.softmax(-1).max(-1)
        chosen = ids.tolist()
        expected = [-1 if one in chosen[:token] else one for token, one in enumerate(chosen)]
        routes = router.routes()
        assert routes.gates_TK is not None
        assert routes.ids_TK[:, 0].tolist() == expected
        np.testing.assert_allclose(routes.gates_TK[:, 0], probabilities, rtol=1e-6)
        absent += expected.count(-1)
    assert absent


def test_nllb_has_two_experts_that_share_a_weight_of_one() -> None:
    found, returned, names = recorded("nllb_moe")
    for routes, name in zip(found, names, strict=True):
        gates = routes.gates_TK
        assert gates is not None
        assert (gates[:, 0] >= gates[:, 1]).all()
        combine = returned[name][0][1]
        for ids_K, gates_K, row in zip(routes.ids_TK, gates, combine, strict=True):
            present = ids_K[ids_K >= 0]
            assert sorted(present.tolist()) == row.nonzero().flatten().tolist()
            np.testing.assert_array_equal(gates_K[ids_K >= 0], row[torch.from_numpy(present).long()])
            assert len(present) < 2 or math.isclose(float(gates_K.sum()), 1, rel_tol=1e-5)


def test_experts_that_compute_nothing_are_no_route() -> None:
    model = tiny_model("longcat_flash")
    routers = find_routers(model)
    forward(model, routers)
    absent = sum(int((router.routes().ids_TK < 0).sum()) for router in routers)
    assert 0 < absent < 2 * TOKENS * len(routers)


def test_steps_follow_each_other() -> None:
    model = tiny_model("mixtral")
    routers = find_routers(model)
    forward(model, routers)
    forward(model, routers)
    routes = routers[0].routes()
    assert routes.layer.steps == (TOKENS, TOKENS)
    np.testing.assert_array_equal(routes.ids_TK[:TOKENS], routes.ids_TK[TOKENS:])


def test_hooks_are_gone_after_a_recording() -> None:
    model = tiny_model("mixtral")
    routers = find_routers(model)
    forward(model, routers)
    forward(model, [])
    assert all(len(router.steps) == 1 for router in routers)


def test_layers_are_chosen_by_number_or_name_in_the_order_of_the_model() -> None:
    routers = find_routers(tiny_model("mixtral"))
    names = [one.name for one in routers]
    assert [one.name for one in chosen_routers(routers, [])] == names
    assert [one.name for one in chosen_routers(routers, ["1", names[0]])] == names
    assert [one.name for one in chosen_routers(routers, ["1"])] == names[1:]
    with pytest.raises(
        NothingToRecord, match="--layers 7: the model has no such layer with experts: give some of 0, 1"
    ):
        chosen_routers(routers, ["1", "7"])


def test_a_model_without_routed_experts_is_refused_with_what_it_has() -> None:
    config = transformers.DogeConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, intermediate_size=32,
        vocab_size=64, is_moe=True, num_experts=16, num_experts_per_tok=2,
    )  # fmt: skip
    with pytest.raises(NothingToRecord, match="DogeCDMoE looks up single neurons by product keys within the layer"):
        find_routers(transformers.DogeModel(config))
    with pytest.raises(NothingToRecord, match=r"Linear has no routed experts .*: give a Mixture-of-Experts model"):
        find_routers(torch.nn.Linear(1, 1))
