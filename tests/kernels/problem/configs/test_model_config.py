"""The reader of a config.json finds the layer of every family, names what it leaves out, and refuses the rest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moebench.kernels.problem.configs.model_config import InvalidConfig, model_of_config

MIXTRAL = {
    "model_type": "mixtral",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 12,
    "hidden_act": "silu",
}
DEFAULTS = [  # class of transformers, then D, F, E, K and MoE layers of its defaults, as its model builds them
    ("AfmoeConfig", (2048, 1408, 64, 6), 31),
    ("AriaTextConfig", (4096, 4096, 8, 2), 32),
    ("BailingHybridConfig", (2560, 768, 512, 8), 40),
    ("Cohere2MoeConfig", (8192, 22528, 8, 2), 40),
    ("DbrxConfig", (2048, 3584, 4, 1), 24),
    ("DeepseekV3Config", (7168, 2048, 256, 8), 58),
    ("DeepseekV4Config", (4096, 2048, 256, 6), 43),
    ("Ernie4_5_MoeConfig", (2560, 1536, 64, 6), 27),
    ("Ernie4_5_VLMoeConfig", (2560, 1536, 64, 6), 27),
    ("ExaoneMoeConfig", (4096, 1024, 64, 8), 31),
    ("FlintConfig", (2048, 512, 256, 6), 47),
    ("Glm4MoeLiteConfig", (2048, 1536, 64, 4), 46),
    ("Glm4vMoeConfig", (4096, 1408, 128, 8), 45),
    ("GptOssConfig", (2880, 2880, 128, 4), 36),
    ("GraniteMoeHybridConfig", (4096, 11008, 8, 2), 32),
    ("JambaConfig", (4096, 14336, 16, 2), 16),
    ("JetMoeConfig", (2048, 5632, 8, 2), 12),
    ("KimiLinearConfig", (2304, 1024, 256, 8), 26),
    ("Lfm2MoeConfig", (2048, 1792, 32, 4), 30),
    ("Llama4Config", (5120, 8192, 16, 1), 48),
    ("LongcatFlashConfig", (6144, 2048, 512, 12), 28),
    ("MiMoV2FlashConfig", (4096, 2048, 256, 8), 47),
    ("MuseSparkConfig", (4096, 4096, 256, 8), 62),
    ("NemotronHConfig", (4096, 7688, 8, 2), 1),
    ("Qwen2MoeConfig", (2048, 1408, 60, 4), 24),
    ("Qwen3OmniMoeConfig", (2048, 768, 128, 8), 28),
    ("Qwen3_5MoeConfig", (2048, 512, 256, 8), 40),
    ("Step3p7Config", (4096, 1280, 288, 8), 42),
    ("SwitchTransformersConfig", (768, 2048, 8, 1), 6),
    ("ZayaConfig", (2048, 2048, 16, 1), 40),
]

Write = Callable[[Any], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(config: Any) -> Path:
        path = tmp_path / "config.json"
        path.write_text(config if isinstance(config, str) else json.dumps(config))
        return path

    return written


@pytest.mark.parametrize(("name", "shape", "layers"), DEFAULTS, ids=[row[0] for row in DEFAULTS])
def test_every_family_of_transformers_is_read(name: str, shape: tuple[int, ...], layers: int, write: Write) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra 'peers' to compare with transformers")
    if not hasattr(transformers, name):
        pytest.skip(f"this version of transformers has no {name}")
    model = model_of_config(write(getattr(transformers, name)().to_dict()))
    assert ((model.D, model.F, model.E, model.K), model.layers) == (shape, layers)
    assert model.gated is (name not in {"NemotronHConfig", "SwitchTransformersConfig"})


@pytest.mark.parametrize(
    ("changes", "layers"),
    [
        ({}, 12),
        ({"first_k_dense_replace": 3}, 9),
        ({"first_k_dense_replace": 1, "moe_layer_freq": 2}, 5),
        ({"moe_layer_freq": [0] + [1] * 11}, 11),
        ({"decoder_sparse_step": 2}, 6),
        ({"decoder_sparse_step": 2, "mlp_only_layers": [1, 2]}, 5),
        ({"interleave_moe_layer_step": 3}, 4),
        ({"moe_layers": [0, 4, 8]}, 3),
        ({"moe_layers_enum": "3, 4,11"}, 3),
        ({"expert_layer_period": 4, "expert_layer_offset": 3}, 3),
        ({"moe_layer_start_index": 2, "moe_layer_end_index": 9, "moe_layer_interval": 2}, 4),
        ({"mlp_layer_types": ["dense", "hash_moe"] + ["moe"] * 10}, 11),
        ({"layers_block_type": ["mamba", "moe", "attention", "moe"]}, 2),
        ({"hybrid_override_pattern": "MEMEM*EME"}, 4),
    ],
    ids=str,
)
def test_layers_with_experts_are_counted(changes: dict[str, Any], layers: int, write: Write) -> None:
    assert model_of_config(write(MIXTRAL | changes)).layers == layers


@pytest.mark.parametrize(
    ("changes", "router"),
    [
        ({}, "softmax_topk_renorm"),
        ({"norm_topk_prob": False}, "softmax_topk"),
        ({"model_type": "jamba"}, "softmax_topk"),
        ({"num_experts_per_tok": 1}, "softmax_topk_renorm"),
        ({"scoring_func": "sigmoid", "routed_scaling_factor": 2.5}, "sigmoid_topk:scale=2.5"),
        ({"model_type": "solar_open", "norm_topk_prob": False}, "sigmoid_topk:renormalise=false"),
        ({"scoring_func": "sqrtsoftplus", "routed_scaling_factor": 1.5}, "sqrt_softplus_topk:scale=1.5"),
        (
            {"model_type": "deepseek_v3", "n_group": 4, "topk_group": 2},
            "sigmoid_topk:groups=4,top_groups=2",
        ),
        ({"model_type": "deepseek_v3", "n_group": 1, "topk_group": 1}, "sigmoid_topk"),
        ({"model_type": "deepseek_v2", "n_group": 4, "topk_group": 2, "topk_method": "greedy"}, "softmax_topk"),
        (
            {"model_type": "mistral4", "n_group": 4, "topk_group": 2},
            "softmax_topk_renorm:groups=4,top_groups=2,group_best=2",
        ),
        ({"model_type": "longcat_flash", "zero_expert_num": 4}, "softmax_topk:zero_experts=4"),
        ({"model_type": "zaya", "num_experts_per_tok": 1}, "softmax_topk:zero_experts=1"),
        ({"model_type": "inkling_text", "n_shared_experts": 2}, "sigmoid_topk:shared_experts=2"),
        ({"model_type": "gpt_oss"}, "topk_softmax"),
        ({"model_type": "cohere2_moe"}, "topk_softmax"),
        ({"model_type": "cohere2_moe", "expert_selection_fn": "sigmoid"}, "topk_sigmoid:renormalise=true"),
        ({"model_type": "kolibri1", "norm_topk_prob": False}, "topk_sigmoid"),
        ({"model_type": "phimoe"}, "sparsemixer"),
        ({"model_type": "phimoe", "router_jitter_noise": 0.1}, "sparsemixer:jitter=0.1"),
        ({"model_type": "switch_transformers", "num_experts_per_tok": 1, "num_sparse_encoder_layers": 2}, "switch"),
    ],
    ids=str,
)
def test_the_router_is_that_of_the_model(changes: dict[str, Any], router: str, write: Write) -> None:
    assert model_of_config(write(MIXTRAL | changes)).problem(T=1).router == router


@pytest.mark.parametrize(
    ("changes", "activation", "note"),
    [
        ({"hidden_act": "gelu_pytorch_tanh"}, "gelu_tanh", ""),
        ({"hidden_act": None, "hidden_activation": "gelu"}, "gelu", ""),
        ({"mlp_hidden_act": "relu2"}, "relu2", ""),
        ({"swiglu_limit": 10}, "silu_clamp10", ""),
        ({"swiglu_limit": 12.0}, "silu_clamp10", "its swiglu_limit = 12.0 is run as 10"),
        ({"swiglu_limit": 7.0, "swiglu_alpha": 1.702}, "swiglu_oai", ""),
        ({"model_type": "gpt_oss", "swiglu_limit": 7.0}, "swiglu_oai", ""),
        ({"hidden_act": "situ", "activation_situ_beta": 2.0}, "situ", "its activation_situ_beta = 2.0 is run as 4"),
    ],
    ids=str,
)
def test_the_activation_is_that_of_the_model(changes: dict[str, Any], activation: str, note: str, write: Write) -> None:
    model = model_of_config(write(MIXTRAL | changes))
    assert (model.activation, model.note, model.gated) == (activation, note, activation != "relu2")


def test_a_file_without_surprises_leaves_nothing_out_and_a_folder_is_as_good(tmp_path: Path, write: Write) -> None:
    model = model_of_config(write(MIXTRAL).parent)
    assert (model.name, model.note, model.source) == ("mixtral", "", str(tmp_path / "config.json"))
    assert (model.D, model.F, model.E, model.K, model.activation) == (64, 96, 8, 2, "silu")


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"model_type": "inkling_text", "n_shared_experts": 1}, "without n_shared_experts = 1"),
        ({"model_type": "hy_v4", "n_shared_experts": 1}, "its shared expert has the limit of its experts here"),
        (
            {"model_type": "cohere2_moe", "num_shared_experts": 2},
            "without num_shared_experts = 2",
        ),
        ({"model_type": "minimax_m2", "use_routing_bias": True}, "its selection biases are zero, as before training"),
        ({"model_type": "zaya"}, "its selection biases are zero; before training that of skipping was -1"),
        ({"model_type": "gemma4_text"}, "its learned scales of experts are 1, as before training"),
        ({"model_type": "gemma4_text"}, "without the norms of experts and of the dense layer beside them"),
        ({"model_type": "llama4_text"}, "its gate weights are on the outputs of experts, not on their inputs"),
        ({"model_type": "a_model_of_tomorrow"}, "unverified: its router"),
        (
            {"model_type": "nllb-moe", "second_expert_policy": "random"},
            "its second_expert_policy = random is run as all",
        ),
        ({"mlp_layer_types": ["hash_moe"] * 3 + ["moe"] * 9}, "3 layers choose experts by token id"),
        ({"quantization_config": {"quant_method": "mxfp4"}}, "without quantisation (mxfp4)"),
        ({"moe_topk": [2] * 9 + [4] * 3, "num_experts_per_tok": None}, "moe_topk is 2 here and 4 in other layers"),
        ({"first_k_dense_replace": 1}, "1 of 12 layers are without experts"),
        ({"future_expert_trick": 3}, "without future_expert_trick = 3"),
    ],
    ids=str,
)
def test_what_is_left_out_is_named(changes: dict[str, Any], note: str, write: Write) -> None:
    assert note in model_of_config(write(MIXTRAL | changes)).note


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "lfm2_moe", "use_expert_bias": False},
        {"model_type": "flint"},
        {"model_type": "cohere2_moe", "expert_selection_fn": "sigmoid"},
        {"scoring_func": "softmax"},
        {"router_bias": True},
    ],
    ids=str,
)
def test_nothing_is_said_of_biases_where_none_selects(changes: dict[str, Any], write: Write) -> None:
    assert model_of_config(write(MIXTRAL | changes)).note == ""


@pytest.mark.parametrize(
    ("changes", "block"),
    [
        ({}, ""),
        ({"n_shared_experts": 0}, ""),
        ({"n_shared_experts": 1}, "shared"),
        ({"moe_num_shared_experts": 2}, "shared:width=192"),
        ({"num_shared_expert": [1, 1, 2]}, "shared"),
        ({"shared_intermediate_size": 64}, "shared:width=64"),
        ({"shared_intermediate_size": 0}, ""),
        ({"n_shared_experts": 1, "moe_shared_expert_intermediate_size": 192}, "shared:width=192"),
        ({"n_shared_experts": 0, "moe_shared_expert_intermediate_size": 192}, ""),
        ({"share_expert_dim": 96}, "shared"),
        ({"model_type": "qwen2_moe", "shared_expert_intermediate_size": 384}, "shared:width=384,sigmoid=true"),
        (
            {"model_type": "dots3_note_text", "n_shared_experts": 2, "shared_experts_intermediate_size": 32},
            "shared:width=64",
        ),
        ({"model_type": "llama4_text", "num_experts_per_tok": 1}, "shared"),
        ({"model_type": "gemma4_text", "moe_intermediate_size": 32}, "shared:width=96"),
        ({"moe_latent_size": 16}, "latent:width=16"),
        ({"moe_latent_size": 16, "n_shared_experts": 2}, "latent:width=16,shared=192"),
        ({"model_type": "inkling_text", "n_shared_experts": 2}, ""),
        ({"model_type": "cohere2_moe", "num_shared_experts": 1}, ""),
        ({"model_type": "cohere2_moe", "num_shared_experts": 1, "shared_expert_combination_strategy": "sum"}, "shared"),
    ],
    ids=str,
)
def test_the_block_is_that_of_the_model(changes: dict[str, Any], block: str, write: Write) -> None:
    model = model_of_config(write(MIXTRAL | changes))
    assert (model.block, model.whole(T=1).D) == (block, 64)
    if block:
        assert "shared_experts" not in model.note


def test_experts_of_gpt_oss_have_biases(write: Write) -> None:
    assert model_of_config(write(MIXTRAL | {"model_type": "gpt_oss"})).problem(T=1).bias
    assert not model_of_config(write(MIXTRAL)).problem(T=1).bias


def test_a_latent_width_is_that_of_the_experts(write: Write) -> None:
    model = model_of_config(write(MIXTRAL | {"moe_latent_size": 16}))
    assert (model.D, model.model_width) == (16, 64)
    assert model_of_config(write(MIXTRAL)).model_width is None


def test_the_text_model_of_a_multimodal_model_is_found_with_the_quantisation_beside_it(write: Write) -> None:
    nested = {"vision_config": {"hidden_size": 5}, "quantization_config": {"quant_method": "fp8"}, "hidden_size": 7}
    model = model_of_config(write(nested | {"thinker_config": {"text_config": MIXTRAL}}))
    assert (model.D, model.note) == (64, "without quantisation (fp8)")


@pytest.mark.parametrize(
    ("config", "parts"),
    [
        ("{", ["is not JSON", "give a model's config.json"]),
        ([1], ["is JSON without named fields"]),
        ({"hidden_size": 8}, ["describes a dense model", "n_routed_experts", "give the config.json of a MoE model"]),
        (MIXTRAL | {"num_local_experts": 1}, ["describes a dense model"]),
        (MIXTRAL | {"enable_moe_block": False}, ["describes a dense model"]),
        (MIXTRAL | {"num_local_experts": None}, ["describes a dense model"]),
        (MIXTRAL | {"num_experts_per_tok": None}, ["none of the fields num_experts_per_tok,", "moe_topk"]),
        (MIXTRAL | {"hidden_size": "64"}, ["hidden_size = '64': give an integer of at least 1"]),
        (MIXTRAL | {"hidden_size": True}, ["hidden_size = True: give an integer"]),
        (MIXTRAL | {"num_local_experts": 8.5}, ["num_local_experts = 8.5: give an integer"]),
        (MIXTRAL | {"intermediate_size": -1}, ["intermediate_size = -1: give an integer of at least 1"]),
        (MIXTRAL | {"intermediate_size": []}, ["intermediate_size = []: give a number for every layer"]),
        (MIXTRAL | {"hidden_act": 3}, ["hidden_act = 3: give the name of an activation"]),
        (MIXTRAL | {"hidden_act": "mish"}, ["hidden_act = 'mish' is no activation", "give silu, swish, "]),
        (MIXTRAL | {"first_k_dense_replace": "x"}, ["first_k_dense_replace = 'x': give an integer"]),
        (MIXTRAL | {"decoder_sparse_step": 0}, ["decoder_sparse_step = 0: give an integer of at least 1"]),
        (MIXTRAL | {"routed_scaling_factor": "2"}, ["routed_scaling_factor = '2': give a number"]),
        (MIXTRAL | {"n_group": 3, "topk_group": 2}, ["groups=3,top_groups=2", "equal groups, not E = 8"]),
        (MIXTRAL | {"n_group": 2, "topk_group": 3}, ["top_groups = 3 of groups = 2 limits nothing"]),
        (MIXTRAL | {"n_shared_experts": "1"}, ["n_shared_experts = '1': give an integer of at least 0"]),
        (MIXTRAL | {"num_shared_expert": []}, ["num_shared_expert = []: give an integer"]),
        (MIXTRAL | {"n_shared_experts": 10**9}, ["shared:width=96000000000", "give an integer from 0 to"]),
        (MIXTRAL | {"n_group": "8"}, ["n_group = '8': give a number from 0 to 4096"]),
        (MIXTRAL | {"zero_expert_num": -1}, ["zero_expert_num = -1: give a number"]),
        (MIXTRAL | {"first_k_dense_replace": 12}, ["first_k_dense_replace", "no layer has experts"]),
        (MIXTRAL | {"num_hidden_layers": 10**12}, ["num_hidden_layers is larger", "an integer of at most 10000"]),
        (MIXTRAL | {"num_hidden_layers": 10**400}, ["num_hidden_layers is larger", "an integer of at most 10000"]),
        (MIXTRAL | {"hidden_size": 10**400}, ["hidden_size is larger than any there is", "give an integer"]),
        (MIXTRAL | {"num_experts_per_tok": 9}, ["K = 9", "E = 8", "give K <= E"]),
    ],
    ids=str,
)
def test_bad_files_are_refused_in_one_sentence(config: Any, parts: list[str], write: Write) -> None:
    with pytest.raises(InvalidConfig) as caught:
        model_of_config(write(config))
    message = str(caught.value)
    assert "\n" not in message
    assert all(part in message for part in ["config.json", *parts]), message


def test_a_file_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"cannot be read.*give a local config.json"):
        model_of_config(tmp_path / "none.json")


def test_a_name_that_no_file_can_have_is_refused_with_the_remedy() -> None:
    with pytest.raises(InvalidConfig, match=r"cannot be read \(File name too long\): give a local config\.json"):
        model_of_config(Path("x" * 300))
