"""Expert weights as Hugging Face keeps them: separate matrices in released checkpoints, fused in transformers 5.

Separate: three matrices for each expert, gate and up (F, D) and down (D, F). Fused: ``gate_up_proj`` (E, 2 F, D), gate
rows first, and ``down_proj`` (E, D, F), which is what `layer.MoELayer` and `tensors.Weights` hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..problem import Activation
from ..problem.tensors import Weights
from ..torch_ops.activations import ACTIVATIONS

FUSED = {"gate_up_proj", "down_proj"}


@dataclass(frozen=True, kw_only=True)
class SeparateExperts:
    """How a family of checkpoints names the expert weights of a layer: ``<experts>.<expert>.<matrix>.weight``.

    ``experts`` is the path of the experts, with ``{layer}`` in it; the others name the three matrices. For a model that
    nests its decoder elsewhere, `dataclasses.replace` the path.
    """

    experts: str
    gate: str
    up: str
    down: str

    def fuse(self, state: Mapping[str, Tensor], *, layer: int) -> dict[str, Tensor]:
        """The experts of a layer as ``gate_up_proj`` and ``down_proj``, copies: a state dict for `layer.MoELayer`.

        ``state`` is a checkpoint's state dict, of which only this layer's experts are read.

        Raises:
            ValueError: when an expert or one of its matrices is missing, or has not the shape of the first.
        """
        down_DF = _read(state, self._key(layer, 0, self.down))
        E, (D, F) = self._count(state, layer), down_DF.shape
        gate_up_EUD, down_EDF = down_DF.new_empty(E, 2 * F, D), down_DF.new_empty(E, D, F)
        places = {self.gate: gate_up_EUD[:, :F], self.up: gate_up_EUD[:, F:], self.down: down_EDF}
        for e in range(E):
            for name, place in places.items():
                key = self._key(layer, e, name)
                matrix = _read(state, key)
                if matrix.shape != place[e].shape:
                    raise ValueError(
                        f"{key} is {tuple(matrix.shape)}: with D = {D}, F = {F} give {tuple(place[e].shape)}"
                    )
                place[e].copy_(matrix.detach())
        return {"gate_up_proj": gate_up_EUD, "down_proj": down_EDF}

    def separate(self, fused: Mapping[str, Tensor], *, layer: int) -> dict[str, Tensor]:
        """The inverse of `fuse`: copies of every expert's matrices under the keys of the checkpoint.

        Raises:
            ValueError: when ``fused`` is not ``gate_up_proj`` and ``down_proj``, or their shapes do not go together.
        """
        if fused.keys() != FUSED:
            raise ValueError(
                f"the fused weights are {', '.join(sorted(fused)) or 'empty'}: give gate_up_proj and down_proj; there "
                "is no separate form for experts that have biases or are not gated"
            )
        gate_up_EUD, down_EDF = fused["gate_up_proj"].detach(), fused["down_proj"].detach()
        E, D, F = down_EDF.shape
        if gate_up_EUD.shape != (E, 2 * F, D):
            raise ValueError(
                f"gate_up_proj is {tuple(gate_up_EUD.shape)}: beside down_proj {(E, D, F)} give {(E, 2 * F, D)}"
            )
        stacked = {self.gate: gate_up_EUD[:, :F], self.up: gate_up_EUD[:, F:], self.down: down_EDF}
        return {self._key(layer, e, name): place[e].clone() for e in range(E) for name, place in stacked.items()}

    def _key(self, layer: int, expert: int | str, name: str) -> str:
        return f"{self.experts.format(layer=layer)}.{expert}.{name}.weight"

    def _count(self, state: Mapping[str, Tensor], layer: int) -> int:
        """One more than the last expert; one missing before it shows when it is read."""
        before, after = self._key(layer, "*", self.down).split("*")
        between = (key[len(before) : -len(after)] for key in state if key.startswith(before) and key.endswith(after))
        return max(int(expert) for expert in between) + 1


MIXTRAL = SeparateExperts(experts="model.layers.{layer}.block_sparse_moe.experts", gate="w1", up="w3", down="w2")
QWEN3_MOE = SeparateExperts(
    experts="model.layers.{layer}.mlp.experts", gate="gate_proj", up="up_proj", down="down_proj"
)
OLMOE = QWEN3_MOE


def read_experts(experts: nn.Module) -> tuple[Weights, Activation]:
    """The parameters of a transformers 5 experts module, shared with it, and its activation.

    Raises:
        ValueError: when the module keeps its weights otherwise, or does with them what no kernel here does.
    """
    kind = type(experts).__name__
    for flag, usual in (("is_transposed", False), ("is_concatenated", True), ("has_post_expert_norm", False)):
        if getattr(experts, flag, usual) is not usual:
            raise ValueError(f"{kind} has {flag} = {not usual}: bring its weights into the form of tensors.Weights")
    tensors = dict(experts.named_parameters(recurse=False))
    gated = "gate_up_proj" in tensors
    up = "gate_up_proj" if gated else "up_proj"
    if not {up, "down_proj"} <= tensors.keys():
        raise ValueError(f"{kind} has no gate_up_proj and down_proj, but {', '.join(tensors) or 'nothing'}: fuse them")
    weights = Weights(
        w_up_EUD=tensors[up],
        w_down_EDF=tensors["down_proj"],
        b_up_EU=tensors.get(f"{up}_bias"),
        b_down_ED=tensors.get("down_proj_bias"),
    )
    return weights, _activation(experts, gated=gated)


def _read(state: Mapping[str, Tensor], key: str) -> Tensor:
    if key not in state:
        raise ValueError(f"there is no {key}: give a checkpoint with the whole layer, and the form that it has")
    return state[key]


def _activation(module: Any, *, gated: bool) -> Activation:
    """Known by what it computes: a clamp or a shift does not show in a name."""
    gate, up = torch.linspace(-20, 20, 81, device="cpu"), torch.linspace(30, -10, 81, device="cpu")
    with torch.no_grad():
        if gated and hasattr(module, "_apply_gate"):  # transformers lets a model override how the halves are joined
            found = module._apply_gate(torch.cat((gate, up))[None])[0]  # noqa: SLF001
        else:
            found = module.act_fn(gate) * up if gated else module.act_fn(gate)
    for name, act in ACTIVATIONS.items():
        expected = act(gate) * up if gated else act(gate)
        if torch.allclose(found, expected, rtol=1e-5, atol=1e-5):
            return name
    raise ValueError(
        f"{type(module).__name__} applies none of {', '.join(ACTIVATIONS)}"
        f"{' times the up projection' if gated else ''}: no kernel here has its activation"
    )
