"""Presets: the shapes of the MoE layers of published models, by name.

Figures are those of the released checkpoints' configuration files unless ``source`` names a paper. A preset is one MoE
layer; its note says what it leaves out of the real layer.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...common.names import unknown
from .problem import Activation, Problem


@dataclass(frozen=True, kw_only=True)
class Model:
    """The MoE layer of one published model, with the shape letters of `problem`.

    ``layers`` counts its MoE layers. ``router`` is the router of its problems. ``source`` is a checkpoint, or a paper
    with its table; ``note`` says what the preset leaves out or replaces.
    """

    name: str
    D: int
    F: int
    E: int
    K: int
    gated: bool
    activation: Activation
    router: str
    layers: int
    source: str
    note: str = ""

    def problem(self, *, T: int, **fields: object) -> Problem:
        """Return the problem of this layer on ``T`` tokens; ``fields`` sets or overrides any other field.

        Raises:
            InvalidProblem: when a field's value is outside its range.
        """
        shape = Problem(
            T=T,
            D=self.D,
            F=self.F,
            E=self.E,
            K=self.K,
            gated=self.gated,
            activation=self.activation,
            router=self.router,
        )
        return shape.replace(**fields)

    @property
    def expert_parameters(self) -> int:
        """Number of parameters of the routed experts of all MoE layers, without shared experts and routers."""
        return self.layers * self.E * self.D * self.F * (3 if self.gated else 2)


def _preset(
    name: str,
    shape: tuple[int, int, int, int],
    router: str,
    *,
    layers: int,
    source: str,
    note: str = "",
    gated: bool = True,
    activation: Activation = "silu",
) -> Model:
    """Make a row of the table below; ``shape`` is (D, F, E, K). Experts are SwiGLU unless the row says otherwise."""
    D, F, E, K = shape
    return Model(
        name=name,
        D=D,
        F=F,
        E=E,
        K=K,
        gated=gated,
        activation=activation,
        router=router,
        layers=layers,
        source=source,
        note=note,
    )


_PLAIN = "softmax_topk"
_RENORM = "softmax_topk_renorm"
_TOP1 = "switch"

_SIGMOID = "the sigmoid router with a selection bias is run as softmax, renormalised"
_SWITCH_PAPER = (
    "Table 9 of Fedus et al. 2021 gives width 2048 instead, which has as many parameters if gated (GEGLU, unverified)"
)

MODELS: tuple[Model, ...] = (
    _preset("Mixtral-8x7B", (4096, 14336, 8, 2), _RENORM, layers=32, source="mistralai/Mixtral-8x7B-v0.1"),
    _preset("Mixtral-8x22B", (6144, 16384, 8, 2), _RENORM, layers=56, source="mistralai/Mixtral-8x22B-v0.1"),
    _preset("DBRX", (6144, 10752, 16, 4), _RENORM, layers=40, source="databricks/dbrx-base"),
    _preset(
        "DeepSeek-V2-Lite",
        (2048, 1408, 64, 6),
        _PLAIN,
        layers=26,
        source="deepseek-ai/DeepSeek-V2-Lite",
        note="without its 2 shared experts; the first of 27 layers is dense",
    ),
    _preset(
        "DeepSeek-V2",
        (5120, 1536, 160, 6),
        _PLAIN,
        layers=59,
        source="deepseek-ai/DeepSeek-V2",
        note="without its 2 shared experts, the limit to 3 of 8 expert groups and the factor 16 on gate weights; "
        "the first of 60 layers is dense",
    ),
    _preset(
        "DeepSeek-V3",
        (7168, 2048, 256, 8),
        _RENORM,
        layers=58,
        source="deepseek-ai/DeepSeek-V3",
        note=f"{_SIGMOID}; without its shared expert, the limit to 4 of 8 expert groups and the factor 2.5 on gate "
        "weights; the first 3 of 61 layers are dense",
    ),
    _preset(
        "Kimi-K2",
        (7168, 2048, 384, 8),
        _RENORM,
        layers=60,
        source="moonshotai/Kimi-K2-Instruct",
        note=f"{_SIGMOID}; without its shared expert and the factor 2.827 on gate weights; "
        "the first of 61 layers is dense",
    ),
    _preset(
        "Qwen1.5-MoE-A2.7B",
        (2048, 1408, 60, 4),
        _PLAIN,
        layers=24,
        source="Qwen/Qwen1.5-MoE-A2.7B",
        note="without its shared expert of 5632 with a sigmoid gate",
    ),
    _preset(
        "Qwen2-57B-A14B",
        (3584, 2560, 64, 8),
        _PLAIN,
        layers=28,
        source="Qwen/Qwen2-57B-A14B",
        note="without its shared expert of 20480 with a sigmoid gate",
    ),
    _preset("Qwen3-30B-A3B", (2048, 768, 128, 8), _RENORM, layers=48, source="Qwen/Qwen3-30B-A3B"),
    _preset("Qwen3-235B-A22B", (4096, 1536, 128, 8), _RENORM, layers=94, source="Qwen/Qwen3-235B-A22B"),
    _preset("Qwen3-Coder-480B", (6144, 2560, 160, 8), _RENORM, layers=62, source="Qwen/Qwen3-Coder-480B-A35B-Instruct"),
    _preset(
        "Qwen3-Next-80B-A3B",
        (2048, 512, 512, 10),
        _RENORM,
        layers=48,
        source="Qwen/Qwen3-Next-80B-A3B-Instruct",
        note="without its shared expert of 512 with a sigmoid gate",
    ),
    _preset("OLMoE-1B-7B", (2048, 1024, 64, 8), _PLAIN, layers=16, source="allenai/OLMoE-1B-7B-0924"),
    _preset(
        "gpt-oss-20b",
        (2880, 2880, 32, 4),
        _RENORM,
        layers=24,
        source="openai/gpt-oss-20b",
        note="without the biases of router and experts; its clamped SwiGLU is run as plain SwiGLU",
    ),
    _preset(
        "gpt-oss-120b",
        (2880, 2880, 128, 4),
        _RENORM,
        layers=36,
        source="openai/gpt-oss-120b",
        note="without the biases of router and experts; its clamped SwiGLU is run as plain SwiGLU",
    ),
    _preset(
        "Phi-3.5-MoE",
        (4096, 6400, 16, 2),
        _PLAIN,
        layers=32,
        source="microsoft/Phi-3.5-MoE-instruct",
        note="its SparseMixer router is run as softmax without renormalisation",
    ),
    _preset(
        "Granite-3-1B-A400M", (1024, 512, 32, 8), _RENORM, layers=24, source="ibm-granite/granite-3.1-1b-a400m-base"
    ),
    _preset(
        "Granite-3-3B-A800M", (1536, 512, 40, 8), _RENORM, layers=32, source="ibm-granite/granite-3.1-3b-a800m-base"
    ),
    _preset(
        "Switch-Base-64",
        (768, 3072, 64, 1),
        _TOP1,
        layers=12,
        source="google/switch-base-64",
        note=_SWITCH_PAPER,
        gated=False,
        activation="relu",
    ),
    _preset(
        "Switch-Base-128",
        (768, 3072, 128, 1),
        _TOP1,
        layers=12,
        source="google/switch-base-128",
        note=_SWITCH_PAPER,
        gated=False,
        activation="relu",
    ),
    _preset(
        "Switch-C-2048",
        (2080, 6144, 2048, 1),
        _TOP1,
        layers=30,
        source="Fedus et al. 2021, Table 9",
        note="every layer of 15 encoder and 15 decoder layers; the file of google/switch-c-2048 says 12 decoder layers",
        gated=False,
        activation="relu",
    ),
    _preset(
        "GLaM-64B-64E",
        (8192, 32768, 64, 2),
        _RENORM,
        layers=32,
        source="Du et al. 2022, Table 4",
        note="every other of 64 layers; only the dense layers are gated, experts of three matrices would exceed 1.2T "
        "parameters; unverified: the table's number, the experts' activation, the renormalised gate weights",
        gated=False,
        activation="gelu",
    ),
    _preset("MiniMax-Text-01", (6144, 9216, 32, 2), _RENORM, layers=80, source="MiniMaxAI/MiniMax-Text-01"),
    _preset(
        "GLM-4.5",
        (5120, 1536, 160, 8),
        _RENORM,
        layers=89,
        source="zai-org/GLM-4.5",
        note=f"{_SIGMOID}; without its shared expert and the factor 2.5 on gate weights; "
        "the first 3 of 92 layers are dense",
    ),
    _preset(
        "GLM-4.5-Air",
        (4096, 1408, 128, 8),
        _RENORM,
        layers=45,
        source="zai-org/GLM-4.5-Air",
        note=f"{_SIGMOID}; without its shared expert; the first of 46 layers is dense",
    ),
    _preset(
        "Llama-4-Scout",
        (5120, 8192, 16, 1),
        _TOP1,
        layers=48,
        source="meta-llama/Llama-4-Scout-17B-16E",
        note="its sigmoid of the top logit, which scales the expert's input, is run as the Switch gate on the output; "
        "without its shared expert",
    ),
    _preset(
        "Llama-4-Maverick",
        (5120, 8192, 128, 1),
        _TOP1,
        layers=24,
        source="meta-llama/Llama-4-Maverick-17B-128E",
        note="its sigmoid of the top logit, which scales the expert's input, is run as the Switch gate on the output; "
        "without its shared expert; every other of 48 layers is dense",
    ),
)


def model(name: str) -> Model:
    """Return the preset of that name; upper and lower case are the same.

    Raises:
        UnknownName: with the nearest names.
    """
    for preset in MODELS:
        if preset.name.casefold() == name.casefold():
            return preset
    raise unknown("model", name, [preset.name for preset in MODELS])
