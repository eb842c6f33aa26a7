"""Experts of Hugging Face transformers 5: their parameters and what they compute.

transformers 5 fuses the matrices of a released checkpoint when it loads one: ``gate_up_proj`` (E, 2 F, D), gate rows
first, or ``up_proj`` (E, F, D) when not gated, and ``down_proj`` (E, D, F). `tensors.Weights` has the same layout. Some
models have matrices (E, in, out), or gate and up in turn, and say so by a flag on the module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..problem import Activation
from ..problem.problem import ONLY_GATED
from ..problem.tensors import Weights
from ..torch_ops.activations import ACTIVATIONS
from ..torch_ops.activations import gated as gated_by

BY_HAND = (
    "give its matrices to MoELayer.from_weights in the layout of tensors.Weights, (E, 2 F, D) with gate rows first and "
    "(E, D, F), and name the activation, if that is all that it computes"
)
DEQUANTISE = (
    "convert the weights to bfloat16, multiplied by their scales, as transformers does when it loads a checkpoint with "
    "dequantize=True"
)


NORM = "post_expert_norm"
PARAMETRISED = "parametrizations."  # torch.nn.utils.parametrize keeps what it computes an attribute from under it


@dataclass(frozen=True, kw_only=True)
class ExpertsLayout:
    """Layout of the parameters of one experts module, and the activation between its products.

    ``transposed`` says that matrices are (E, in, out), ``in_turn`` that gate and up alternate, gate first, ``normed``
    that the module's ``post_expert_norm`` is applied to the result of every expert, before the gate weight.
    """

    activation: Activation
    gated: bool
    bias: bool
    transposed: bool
    in_turn: bool
    normed: bool

    @staticmethod
    def of(experts: nn.Module) -> ExpertsLayout:
        """Return the layout of a module, whose parameters may be parametrised or on the device ``meta``.

        Raises:
            ValueError: when the module has parameters or buffers that would not be read, or computes something that no
                kernel here computes.
        """
        kind = type(experts).__name__
        tensors = [name for name, _ in (*experts.named_parameters(), *experts.named_buffers())]
        held = dict.fromkeys(_attribute(name) for name in tensors)
        gated = "gate_up_proj" in held
        up = "gate_up_proj" if gated else "up_proj"
        if not {up, "down_proj"} <= held.keys():
            raise ValueError(f"{kind} has no gate_up_proj and down_proj, but {', '.join(held) or 'nothing'}: {BY_HAND}")
        normed = bool(getattr(experts, "has_post_expert_norm", False))
        held = {name: None for name in held if not (normed and name.startswith(f"{NORM}."))}
        biases = {f"{up}_bias", "down_proj_bias"}
        if unread := held.keys() - {up, "down_proj", *biases}:
            remedy = DEQUANTISE if any("scale" in name or "zero" in name for name in unread) else BY_HAND
            raise ValueError(f"{kind} also has {', '.join(sorted(unread))}, which would not be read: {remedy}")
        transposed, in_turn = getattr(experts, "is_transposed", False), not getattr(experts, "is_concatenated", True)
        up_shape, down_shape = getattr(experts, up).shape, cast(Tensor, experts.down_proj).shape
        if gated and not transposed and up_shape[1:] == (down_shape[2], 2 * down_shape[1]):
            raise ValueError(f"{kind} has matrices (E, in, out), and takes no ids and weights of tokens: {BY_HAND}")
        return ExpertsLayout(
            activation=_activation(experts, gated=gated, in_turn=in_turn),
            gated=gated,
            bias=biases <= held.keys(),
            transposed=transposed,
            in_turn=gated and in_turn,
            normed=normed,
        )

    @property
    def names(self) -> dict[str, str]:
        """The attributes of the module by the names of `Weights.named`."""
        up = "gate_up_proj" if self.gated else "up_proj"
        biases = {"b_up": f"{up}_bias", "b_down": "down_proj_bias"} if self.bias else {}
        return {"w_up": up, "w_down": "down_proj", **biases}

    def read(self, experts: nn.Module) -> dict[str, Tensor]:
        """Return the tensors of a module as they are stored; each attribute is read once."""
        return {name: getattr(experts, attribute) for name, attribute in self.names.items()}

    def gates_first(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the stored tensors with copies of those whose gate and up rows take turns. Differentiable."""
        if not self.in_turn:
            return dict(stored)
        sides = {"w_up": -1 if self.transposed else 1, "b_up": 1}
        return {name: _evens_first(tensor, sides[name]) if name in sides else tensor for name, tensor in stored.items()}

    def arrange(self, stored: Mapping[str, Tensor]) -> Weights:
        """Return stored tensors, gates first, as the kernels take them: views where they lie transposed."""
        w_up, w_down = stored["w_up"], stored["w_down"]
        return Weights(
            w_up_EUD=w_up.mT if self.transposed else w_up,
            w_down_EDF=w_down.mT if self.transposed else w_down,
            b_up_EU=stored.get("b_up"),
            b_down_ED=stored.get("b_down"),
        )


def read_experts(experts: nn.Module) -> tuple[Weights, Activation]:
    """Return the parameters of a transformers 5 experts module, and its activation.

    They are shared with it where it has them in our layout, and contiguous copies where it has not.

    Raises:
        ValueError: as `ExpertsLayout.of`, and when a parameter is parametrised.
    """
    layout = ExpertsLayout.of(experts)
    if layout.normed:
        kind = type(experts).__name__
        raise ValueError(f"{kind} has has_post_expert_norm = True, and no kernel here has a norm: keep this module")
    if computed := [name for name in layout.names.values() if not isinstance(getattr(experts, name), nn.Parameter)]:
        raise ValueError(
            f"{type(experts).__name__} computes {', '.join(computed)} when it is read, which a layer made of it would "
            "not: merge its adapters first"
        )
    with torch.no_grad():
        weights = layout.arrange(layout.gates_first(layout.read(experts)))
        weights = weights.map(lambda tensor: tensor if isinstance(tensor, nn.Parameter) else tensor.contiguous())
    return weights, layout.activation


def _evens_first(tensor: Tensor, side: int) -> Tensor:
    """Return a copy with the slices of even index along a side before those of odd index."""
    evens, odds = tensor.unflatten(side, (-1, 2)).unbind(side if side < 0 else side + 1)
    return torch.cat((evens, odds), side)


def _attribute(name: str) -> str:
    """Return the attribute that the tensor of this name belongs to; of a parametrised one it is a part."""
    return name.split(".")[1] if name.startswith(PARAMETRISED) else name


def activation_of(kind: str, join: Callable[[Tensor, Tensor], Tensor], *, gated: bool) -> Activation:
    """Find the activation of a class of experts by what it computes: its name does not show a clamp or a shift.

    ``join`` computes what is between the two products, of the gate and the up projection, or of the first alone.

    Raises:
        ValueError: when ``join`` fails, or no kernel here computes the same.
    """
    options: dict[str, Any] = {"device": "cpu", "dtype": torch.float32}  # not those of the context: it may be meta
    near, far = torch.linspace(-20, 20, 81, **options), torch.logspace(1, 4, 7, **options)
    gate, up = torch.cat((near, far, -far, far)), torch.cat((10 - near, far, far, -far))
    try:
        with torch.no_grad():
            found = join(gate, up)
    except Exception as error:
        raise ValueError(f"{kind} does not let its activation be seen ({error}): {BY_HAND}") from error
    for name, act in ACTIVATIONS.items():
        if name in ONLY_GATED and not gated:
            continue
        expected = gated_by(name, gate, up) if gated else act(gate)
        if torch.allclose(found, expected, rtol=1e-5, atol=1e-5):
            return name
    raise ValueError(
        f"{kind} applies none of {', '.join(ACTIVATIONS)}"
        f"{' times the up projection' if gated else ''}: no kernel here has its activation"
    )


def _activation(module: Any, *, gated: bool, in_turn: bool) -> Activation:
    def join(gate: Tensor, up: Tensor) -> Tensor:
        if gated and hasattr(module, "_apply_gate"):  # a model may override how the halves are joined
            halves = torch.stack((gate, up), 1).flatten() if in_turn else torch.cat((gate, up))
            return cast(Tensor, module._apply_gate(halves[None])[0])  # noqa: SLF001
        return cast(Tensor, module.act_fn(gate) * up if gated else module.act_fn(gate))

    return activation_of(type(module).__name__, join, gated=gated)
