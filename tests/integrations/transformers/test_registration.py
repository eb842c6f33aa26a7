"""transformers takes the name "moebench" wherever it takes an implementation, and refuses early what is not taken."""

from __future__ import annotations

import copy
import hashlib
import inspect
import pickle
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch

pytest.importorskip("transformers.integrations.moe")

from transformers import AutoModelForCausalLM, FineGrainedFP8Config, LlamaConfig, PreTrainedModel
from transformers.distributed import parallel_utils
from transformers.integrations import finegrained_fp8, moe
from transformers.quantizers.base import HfQuantizer
from transformers.quantizers.quantizer_finegrained_fp8 import FineGrainedFP8HfQuantizer

import moebench.transformers
from moebench.common.errors import UserError
from moebench.common.names import UnknownName
from moebench.common.packages import Unusable
from moebench.integrations.transformers import registration
from moebench.integrations.transformers.taken_experts import RefusedExperts, TakenExperts, experts_of

IDS = torch.tensor([[5, 6, 7, 8, 9]])
READ: dict[Any, str] = {  # sources that this plug-in relies on, by the first digits of their SHA-256 in READ_AGAINST
    moe.use_experts_implementation: "993c3cae142242ed",
    moe.ExpertsInterface: "6b5ed11e1892780c",
    finegrained_fp8.replace_with_fp8_linear: "e6bb8013932c0aee",
    parallel_utils._use_local_dtensor_params: "995cd931fd2f3f41",
    PreTrainedModel.get_correct_experts_implementation: "c0ac9e9963ebdee4",
    PreTrainedModel.post_init: "7e71a8ab677d5dc8",
    PreTrainedModel.set_experts_implementation: "91735001ba097df8",
    HfQuantizer.preprocess_model: "c63f6cdbb8644b8d",
}


def implementations(model: Any) -> set[str]:
    """Return what the experts of a model are run by, as their configuration says."""
    configurations: list[Any] = [experts.config for experts in experts_of(model)]
    return {config._experts_implementation for config in configurations}


def from_config(config: Any, **options: Any) -> Any:
    made: Any = AutoModelForCausalLM  # its methods have no types
    return made.from_config(config, **options)


def taken(model: Any) -> list[TakenExperts]:
    return [found for experts in experts_of(model) if (found := getattr(experts, "moebench", None))]


def test_a_model_is_loaded_with_the_name(tmp_path: Path) -> None:
    saved = tiny_models.tiny_model("mixtral")
    saved.save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, experts_implementation="moebench")
    assert implementations(model) == {"moebench"}
    assert len(taken(model)) == 2
    torch.testing.assert_close(model(IDS).logits, saved(IDS).logits)
    made = from_config(saved.config, experts_implementation="moebench")
    assert len(taken(made)) == 2


def test_a_model_is_switched_there_and_back() -> None:
    model = tiny_models.tiny_model("mixtral", experts_implementation="eager")
    expected = model(IDS).logits
    model.set_experts_implementation("moebench")
    assert len(taken(model)) == 2
    torch.testing.assert_close(model(IDS).logits, expected)
    model.set_experts_implementation("eager")
    assert taken(model) == []
    assert torch.equal(model(IDS).logits, expected)


def test_one_backbone_of_several_is_switched() -> None:
    model = tiny_models.tiny_model("qwen3_vl_moe", experts_implementation={"text_config": "moebench"})
    assert model.config._experts_implementation != "moebench"
    assert implementations(model) == {"moebench"}
    assert len(taken(model)) == 2
    model.set_experts_implementation({"text_config": "eager"})
    assert taken(model) == []
    model.set_experts_implementation({"text_config": "moebench"})
    assert len(taken(model)) == 2


def test_options_are_those_of_use_until_another_implementation_is_set() -> None:
    model = tiny_models.tiny_model("mixtral")
    moebench.transformers.use(model, dispatch="scatter")
    model.generate(IDS, max_new_tokens=2, do_sample=False)
    model.set_experts_implementation("moebench")
    assert {one.dispatch for one in taken(model)} == {"scatter"}
    moebench.transformers.use(model)
    assert {one.dispatch for one in taken(model)} == {"auto"}
    moebench.transformers.use(model, dispatch="loop")
    model.set_experts_implementation("eager")
    model.set_experts_implementation("moebench")
    assert {one.dispatch for one in taken(model)} == {"auto"}


def test_what_use_cannot_do_is_refused_before_anything_changes() -> None:
    model = tiny_models.tiny_model("mixtral", experts_implementation="eager")
    with pytest.raises(UnknownName, match="no kernel is named 'scater': did you mean scatter"):
        moebench.transformers.use(model, dispatch="scater")
    assert implementations(model) == {"eager"}
    dense = from_config(LlamaConfig(**{**tiny_models.SIZES, "num_hidden_layers": 1}))
    with pytest.raises(RefusedExperts, match="LlamaForCausalLM has no experts: moebench has nothing to run in it"):
        moebench.transformers.use(dense)


def test_a_model_is_copied_and_pickled_with_its_options() -> None:
    model = tiny_models.tiny_model("gpt_oss")
    moebench.transformers.use(model, dispatch="scatter")
    with torch.no_grad():
        expected = model(IDS).logits
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301
            assert {one.dispatch for one in taken(other)} == {"scatter"}
            assert torch.equal(other(IDS).logits, expected)


def test_a_name_written_into_the_configuration_is_taken_at_the_first_call() -> None:
    model = tiny_models.tiny_model("mixtral", experts_implementation="eager")
    expected = model(IDS).logits
    model.config._experts_implementation = "moebench"
    torch.testing.assert_close(model(IDS).logits, expected)
    assert len(taken(model)) == 2


def test_limits_that_no_kernel_has_are_refused_when_the_model_is_made() -> None:
    config = tiny_models.tiny_config("deepseek_v4")
    config.swiglu_limit = 12.0
    with pytest.raises(
        RefusedExperts, match=r'DeepseekV4Experts applies none of silu, .*"grouped_mm" runs it as it is$'
    ):
        from_config(config, experts_implementation="moebench")


def quantise(model: Any) -> None:
    """Do what from_pretrained does with a checkpoint in float8, before it reads the weights."""
    settings = FineGrainedFP8Config(weight_block_size=(8, 8))
    FineGrainedFP8HfQuantizer(settings).preprocess_model(model, device_map=None)


def test_float8_weights_are_refused_before_they_are_loaded() -> None:
    model = tiny_models.tiny_model("mixtral", experts_implementation="moebench")
    with pytest.raises(RefusedExperts, match=r"FP8Experts also has down_proj_scale_inv, gate_up_proj_scale_inv, which"):
        quantise(model)
    model = tiny_models.tiny_model("mixtral", experts_implementation="eager")
    quantise(model)
    with pytest.raises(RefusedExperts, match=r"gate_up_proj_scale_inv, which would not be read: .* dequantize=True; "):
        model.set_experts_implementation("moebench")
    assert model.config._experts_implementation == "eager"
    assert "moebench" in finegrained_fp8.ALL_FP8_EXPERTS_FUNCTIONS
    model.config._experts_implementation = "moebench"
    experts = next(experts_of(model))
    with pytest.raises(RefusedExperts, match="gate_up_proj_scale_inv"):
        experts(torch.randn(2, 32), torch.zeros(2, 1, dtype=torch.int64), torch.ones(2, 1))


@pytest.mark.parametrize("family", ["mixtral", "gpt_oss"])
def test_ids_of_other_ranks_are_no_routes(family: str) -> None:
    """Under expert parallelism transformers gives them the id ``num_experts`` and the weight 0."""
    model = tiny_models.tiny_model(family)
    experts: Any = next(experts_of(model))
    experts._is_expert_parallel = True
    ids = torch.tensor([[0, 4], [4, 4], [3, 1], [4, 2]])
    tokens = torch.randn(4, 32)
    results: list[tuple[Any, Any]] = []
    for implementation in ("grouped_mm", "moebench"):
        model.set_experts_implementation(implementation)
        gates = torch.rand(4, 2, generator=torch.Generator().manual_seed(0)).masked_fill_(ids == 4, 0).requires_grad_()
        y = experts(tokens, ids, gates)
        y.square().sum().backward()
        results.append((y, gates.grad))
    (expected, expected_gradient), (found, gradient) = results
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient, expected_gradient)
    assert not found[1].any()
    assert not gradient[ids == 4].any()


def test_registering_again_wraps_nothing_twice() -> None:
    before = PreTrainedModel.post_init, PreTrainedModel.set_experts_implementation
    registration.register()
    assert before == (PreTrainedModel.post_init, PreTrainedModel.set_experts_implementation)


def test_a_transformers_that_takes_no_registered_names_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    def only_its_own(_: Any, requested: str) -> str:
        if requested not in {"eager", "grouped_mm", "batched_mm"}:
            raise ValueError(f'`experts_implementation="{requested}"` is not supported')
        return requested

    monkeypatch.setattr(PreTrainedModel, "get_correct_experts_implementation", only_its_own)
    with pytest.raises(Unusable, match=r"transformers .* takes only the experts .* it brings along: install") as error:
        registration.register()
    assert isinstance(error.value, UserError)


def test_the_installed_transformers_is_the_one_that_was_read() -> None:
    """When this fails, read the sources anew, and change the plug-in or these sums."""
    sums = {read.__qualname__: hashlib.sha256(inspect.getsource(read).encode()).hexdigest()[:16] for read in READ}
    assert sums == {read.__qualname__: digest for read, digest in READ.items()}
