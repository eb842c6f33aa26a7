"""The reader of a Hugging Face ``config.json``: the shape of the MoE layer of any model, from a local file.

Every family spells the same few facts in its own way. The tables below hold the spellings of the configuration classes
of transformers 5 and of released checkpoints; what else a file says about its experts is named in the model's note.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ....common.errors import UserError
from ....common.files import NotUtf8, TooLong, read_text
from ..models import Model
from ..problem import LARGEST, Activation, InvalidProblem
from .config_block import SHARED_COUNTS, block_notes, block_of, block_reads
from .config_router import READ, router_notes, router_of

Config = dict[str, Any]

# The first spelling that is present and not null counts: those of experts come before those of the whole model.
MODEL_WIDTHS = ("hidden_size", "d_model")
WIDTHS = ("moe_latent_size", "routed_expert_hidden_size", "moe_hidden_size", *MODEL_WIDTHS)
HIDDEN_WIDTHS = (
    *("moe_intermediate_size", "expert_ffn_hidden_size", "expert_intermediate_size", "moe_ffn_hidden_size"),
    *("ffn_hidden_size", "intermediate_size", "d_ff", "decoder_ffn_dim"),
)
EXPERTS = ("n_routed_experts", "num_local_experts", "num_experts", "moe_num_experts")
CHOSEN = (
    *("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_topk", "moe_top_k", "top_k_experts"),
    *("moe_k", "num_selected_experts"),
)
LAYERS = ("num_hidden_layers", "n_layers", "num_layers")
ACTIVATIONS = (
    *("mlp_hidden_act", "hidden_act", "hidden_activation", "activation_function", "dense_act_fn", "ffn_act_fn"),
)
MOST_LAYERS = 10_000  # each is looked at; no model has a tenth
NESTED = ("text_config", "thinker_config", "language_config", "llm_config")
FLAGS = ("is_moe", "enable_moe_block")  # a layer has experts only if the flag is true

ACTIVATION_NAMES: dict[str, Activation] = {
    **dict.fromkeys(("silu", "swish", "swiglu"), "silu"),
    **dict.fromkeys(("gelu_tanh", "gelu_pytorch_tanh", "gelu_new", "gelu_fast"), "gelu_tanh"),
    **dict.fromkeys(("relu2", "relu_squared"), "relu2"),
    **dict.fromkeys(("gelu", "gelu_python", "geglu"), "gelu"),
    "relu": "relu",
    "swigluoai": "swiglu_oai",
    "situ": "situ",
}
# The constants of an activation, as its kernels have them.
CONSTANTS: dict[Activation, dict[str, float]] = {
    "silu_clamp10": {"swiglu_limit": 10.0},
    "swiglu_oai": {"swiglu_limit": 7.0, "swiglu_alpha": 1.702},
    "situ": {
        "activation_situ_beta": 4.0,
        "activation_situ_linear_beta": 25.0,
        "mlp_gate_softcap": 4.0,
        "mlp_up_softcap": 25.0,
    },
}

# What the files of these families leave to the model's code.
UNGATED = {"nemotron_h", "switch_transformers", "nllb-moe"}
OWN_ACTIVATION: dict[str, Activation] = {
    "gpt_oss": "swiglu_oai",
    "openai_privacy_filter": "swiglu_oai",
    "inkling2_text": "situ",
}
ALWAYS_CHOSEN = {"switch_transformers": 1, "nllb-moe": 2}
BIASED = {"gpt_oss", "openai_privacy_filter"}

# A field with one of these words is named in the note unless it is read above or does not change what a layer computes.
TELLING_WORDS = (
    *("expert", "moe", "router", "routing", "topk", "expert_group", "swiglu", "share", "mlp_bias", "situ", "hash"),
)
SILENT_WORDS = (
    *("index", "loss", "output_router", "jitter", "overlap", "dtype", "dropout", "tie_", "shared_layers", "sparse_"),
    *("mtp", "is_moe", "enable_moe", "moe_layer", "layer_period", "layer_offset", "capacity", "eval", "padding", "eps"),
    *("norm_min", "switch_"),
)


class InvalidConfig(UserError, ValueError):
    """A file that is not the configuration of a MoE model; the message names the file, the field and the remedy."""


def model_of_config(path: Path) -> Model:
    """Return the MoE layer that a ``config.json`` describes; ``path`` is the file or the folder of a checkpoint.

    Its note names what the file says about experts and this layer leaves out.

    Raises:
        InvalidConfig: when the file cannot be read, is of a dense model, or lacks a field.
    """
    try:
        path = path / "config.json" if path.is_dir() else path
    except OSError as error:  # of a name that the file system cannot have
        raise InvalidConfig(f"{path} cannot be read ({error.strerror}): give a local config.json") from error
    config = _Fields(path, _experts_part(_read(path)))
    experts = config.commonest(EXPERTS) if config.has(EXPERTS) else 0
    if experts < 2 or any(config.fields.get(flag) is False for flag in FLAGS):  # one expert is dense
        raise InvalidConfig(
            f"{path} describes a dense model, without experts to choose from ({' or '.join(EXPERTS)}): "
            "give the config.json of a MoE model"
        )
    layers, all_layers = _moe_layers(config)
    width, model_width = config.number(WIDTHS), config.number(MODEL_WIDTHS)
    activation, gated = _activation(config)
    chosen = ALWAYS_CHOSEN.get(config.family) if not config.has(CHOSEN) else None
    hidden = config.commonest(HIDDEN_WIDTHS)
    try:
        router = router_of(config.fields, config.family)
        block = block_of(config.fields, config.family, hidden=hidden, latent=width if width != model_width else 0)
    except ValueError as error:
        raise InvalidConfig(f"{path}: {error}") from error
    model = Model(
        name=config.family or path.stem,
        D=width,
        F=hidden,
        E=experts,
        K=chosen or config.commonest(CHOSEN),
        gated=gated,
        activation=activation,
        router=router,
        bias=config.family in BIASED,
        layers=layers,
        source=str(path),
        block=block,
        model_width=model_width if model_width != width else None,
        note="; ".join(
            [
                *config.notes,
                *router_notes(config.fields, config.family),
                *block_notes(config.family),
                *_left_out(config, block_reads(block)),
                *_dense_layers(layers, all_layers),
            ]
        ),
    )
    try:
        whole = model.whole(T=1)
        return dataclasses.replace(model, router=whole.router, block=whole.block)
    except InvalidProblem as error:
        raise InvalidConfig(f"{path}: {error}") from error


class _Fields:
    """The fields of one configuration, with what was found to be worth a note."""

    def __init__(self, path: Path, fields: Config) -> None:
        self.path = path
        self.fields = fields
        self.family = str(fields.get("model_type") or "")
        self.notes: list[str] = []

    def has(self, spellings: tuple[str, ...]) -> bool:
        return any(self.fields.get(name) is not None for name in spellings)

    def find(self, spellings: tuple[str, ...]) -> tuple[str, Any]:
        """Return the first spelling that the file has, and its value."""
        for name in spellings:
            if self.fields.get(name) is not None:
                return name, self.fields[name]
        raise InvalidConfig(f"{self.path} has none of the fields {', '.join(spellings)}: add the one that applies")

    def number(self, spellings: tuple[str, ...], most: int = LARGEST) -> int:
        name, value = self.find(spellings)
        return self.integer(name, value, 1, most)

    def optional(self, name: str, default: int, least: int = 0) -> int:
        value = self.fields.get(name)
        return default if value is None else self.integer(name, value, least)

    def integer(self, name: str, value: object, least: int, most: int = LARGEST) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise InvalidConfig(f"{self.path}: {name} = {value!r}: give an integer of at least {least}")
        if value > most:
            raise InvalidConfig(f"{self.path}: {name} is larger than any there is: give an integer of at most {most}")
        return value

    def listed(self, name: str) -> list[Any] | None:
        """Return a list that has an entry for every layer, or None if the field is no list."""
        value = self.fields.get(name)
        return value if isinstance(value, list) else None

    def commonest(self, spellings: tuple[str, ...]) -> int:
        """Return a number, or of a list, with one for every layer, the commonest, and say so."""
        name, value = self.find(spellings)
        if not isinstance(value, list):
            return self.integer(name, value, 0 if spellings is EXPERTS else 1)
        numbers = [self.integer(name, number, 1) for number in value]
        if not numbers:
            raise InvalidConfig(f"{self.path}: {name} = []: give a number for every layer")
        found = Counter(numbers).most_common(1)[0][0]
        if len(others := sorted(set(numbers) - {found})) > 0:
            self.notes.append(f"{name} is {found} here and {', '.join(map(str, others))} in other layers")
        return found


def _read(path: Path) -> Config:
    try:
        content = read_text(path)
    except (NotUtf8, TooLong):
        raise
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error  # as of a path with a NUL
        raise InvalidConfig(f"{path} cannot be read ({reason}): give a local config.json") from error
    try:
        config = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidConfig(f"{path} is not JSON ({error}): give a model's config.json") from error
    if not isinstance(config, dict):
        raise InvalidConfig(f"{path} is JSON without named fields: give a model's config.json")
    return config


def _experts_part(config: Config) -> Config:
    """Return the fields of the part that has experts: the text model of a multimodal one, DBRX's own parts joined."""
    outer = {"quantization_config": config["quantization_config"]} if config.get("quantization_config") else {}
    for name in NESTED:
        part = config.get(name)
        if isinstance(part, dict) and not any(config.get(field) is not None for field in EXPERTS):
            return _experts_part(outer | part)
    feed_forward = config.get("ffn_config")
    return feed_forward | config if isinstance(feed_forward, dict) else config


def _moe_layers(config: _Fields) -> tuple[int, int]:
    """Return how many layers have experts, and how many layers there are."""
    for name, is_moe in _LISTS.items():
        kinds = config.listed(name)
        if kinds is not None and any(is_moe(kind) for kind in kinds):
            return sum(is_moe(kind) for kind in kinds), len(kinds)
    pattern = config.fields.get("hybrid_override_pattern")
    if isinstance(pattern, str) and "E" in pattern:
        return pattern.count("E"), len(pattern)
    if config.family == "switch_transformers":
        sparse = config.optional("num_sparse_encoder_layers", 0) + config.optional("num_sparse_decoder_layers", 0)
        return sparse, config.number(LAYERS) + config.optional("num_decoder_layers", config.number(LAYERS))
    layers = config.number(LAYERS, most=MOST_LAYERS)
    rules = [*_rules(config, layers)]
    if with_experts := sum(all(rule(i) for rule in rules) for i in range(layers)):
        return with_experts, layers
    raise InvalidConfig(
        f"{config.path}: no layer has experts by its fields such as first_k_dense_replace and moe_layer_freq: mend them"
    )


_LISTS: dict[str, Callable[[Any], bool]] = {
    "mlp_layer_types": lambda kind: kind != "dense",
    "layers_block_type": lambda kind: kind == "moe",
    "moe_layer_freq": bool,
}


def _rules(config: _Fields, layers: int) -> Iterator[Callable[[int], bool]]:
    """Yield a condition on a layer's index, from 0, for every field that keeps layers dense."""
    for name in ("first_k_dense_replace", "num_dense_layers", "moe_layer_num_skipped", "dense_mlp_idx"):
        if first := config.optional(name, 0):
            yield lambda i, first=first: i >= first  # type: ignore[misc]
    for name in ("decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_interval"):
        step = config.optional(name, 1, least=1)
        yield lambda i, step=step: (i + 1) % step == 0  # type: ignore[misc]
    if not isinstance(config.fields.get("moe_layer_freq"), list):
        frequency = config.optional("moe_layer_freq", 1, least=1)
        yield lambda i: i % frequency == 0
    if period := config.optional("expert_layer_period", 0):
        offset = config.optional("expert_layer_offset", 0)
        yield lambda i: i % period == offset
    if start := config.optional("moe_layer_start_index", 0):
        yield lambda i: i >= start
    end = config.optional("moe_layer_end_index", -1, least=-1) % layers
    yield lambda i: i <= end
    named = config.fields.get("moe_layers_enum")
    if chosen := named.split(",") if isinstance(named, str) else config.listed("moe_layers"):
        indices = {str(index).strip() for index in chosen}
        yield lambda i: str(i) in indices
    if dense := config.listed("mlp_only_layers"):
        yield lambda i: i not in dense


def _activation(config: _Fields) -> tuple[Activation, bool]:
    """Return the activation, and whether it multiplies a gate half with an up half."""
    name, value = config.find(ACTIVATIONS) if config.has(ACTIVATIONS) else ("hidden_act", "silu")
    word = value.get("name") if isinstance(value, dict) else value  # DBRX: {"name": "silu"}
    if not isinstance(word, str):
        raise InvalidConfig(f"{config.path}: {name} = {value!r}: give the name of an activation")
    gated = config.family not in UNGATED and word not in {"relu2", "relu_squared"}
    found = OWN_ACTIVATION.get(config.family) or ACTIVATION_NAMES.get(word)
    if found is None:  # with another one it would be another layer, and its time another one's
        known = ", ".join(ACTIVATION_NAMES)
        raise InvalidConfig(f"{config.path}: {name} = {word!r} is no activation that a kernel here has: give {known}")
    if found == "silu" and config.fields.get("swiglu_limit"):
        found = "swiglu_oai" if config.fields.get("swiglu_alpha") else "silu_clamp10"
    for constant, usual in CONSTANTS.get(found, {}).items():
        if (value := config.fields.get(constant)) is not None and value != usual:
            config.notes.append(f"its {constant} = {value} is run as {usual:g}")
    return found, gated


def _left_out(config: _Fields, of_block: set[str]) -> Iterator[str]:
    """Yield what the file says about experts and routers that the layer with its block does not do."""
    read = {*WIDTHS, *HIDDEN_WIDTHS, *EXPERTS, *CHOSEN, *LAYERS, *ACTIVATIONS, *_LISTS} | READ | of_block
    read |= {constant for constants in CONSTANTS.values() for constant in constants}
    found = [
        name if value is True or isinstance(value, list) else f"{name} = {value}"
        for name, value in config.fields.items()
        if name not in read and _tells(name, value)
    ]
    quantised = config.fields.get("quantization_config")
    if isinstance(quantised, dict):
        found.append(f"quantisation ({quantised.get('quant_method') or quantised.get('quant_algo') or 'unnamed'})")
    if found:
        yield f"without {', '.join(found)}"


def _tells(name: str, value: object) -> bool:
    if isinstance(value, dict) or not value or any(word in name for word in SILENT_WORDS):
        return False
    if name in SHARED_COUNTS or value is True:  # a count of 1 counts; any other field that is 0 or 1 changes nothing
        return name in SHARED_COUNTS or any(word in name for word in TELLING_WORDS)
    return value != 1 and any(word in name for word in TELLING_WORDS)


def _dense_layers(layers: int, all_layers: int) -> Iterator[str]:
    if layers < all_layers:
        yield f"{all_layers - layers} of {all_layers} layers are without experts"
