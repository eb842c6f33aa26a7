"""The experts of an MoE block as a torch module, which runs any implementation of this package."""

from __future__ import annotations

from typing import Literal, TypedDict, Unpack, cast, get_args

import torch
from torch import Tensor, nn

from ..problem import Activation, DropPolicy, Problem
from ..problem.tensors import Weights
from ..tuned.select import AUTO, check_dispatch
from .apply_experts import apply_experts
from .built_layers import dtype_name
from .hugging_face import DEQUANTISE, read_experts
from .observed_load import ObservedLoad

BETWEEN_GRAPHS = (
    "MoELayer with load = 'observed' runs between two graphs of torch.compile, not inside one, as earlier calls decide "
    "which kernel runs: give load = 'uniform'"
)

LoadOption = Literal["uniform", "observed"]


class Options(TypedDict, total=False):
    """Options that say how a layer runs its experts; see `MoELayer`."""

    dispatch: str
    capacity_factor: float | None
    drop: DropPolicy
    batch_invariant: bool
    load: LoadOption


class MoELayer(nn.Module):
    """E experts, called as those of transformers 5 are: ``block.experts = MoELayer.from_experts(block.experts)``.

    Parameters, by the names of transformers: ``gate_up_proj`` (E, 2 F, D), gate rows first, or ``up_proj`` (E, F, D)
    when not gated, and ``down_proj`` (E, D, F); with ``bias`` also ``gate_up_proj_bias`` (E, 2 F) or ``up_proj_bias``
    (E, F), and ``down_proj_bias`` (E, D).

    ``dispatch`` names a kernel; with ``auto`` `tuned.select.choose` picks one. Its configuration comes from tuned
    tables, which are read once for every number of tokens and for the load ``uniform``. With ``capacity_factor`` an
    expert takes at most C rows of one call (`Problem.capacity`), and ``drop`` says which rows; with None nothing is
    dropped.

    With ``load="observed"`` kernel and configuration are those for the load that recent calls resemble most, by the
    tables of the most similar load that was tuned, and on a CPU without tables by the cost model. No call waits for
    what is observed (`observed_load.ObservedLoad`), and neither a state_dict nor a copy has it. As earlier calls decide
    which kernel runs, they decide the last bits of a result. A checkpoint that repeats a forward finds the same kernel
    if no other forward of the layer came between.

    With ``batch_invariant`` a token's result has the same bits in every batch, alone, in any order, and in training:
    one kernel that guarantees it by construction (`Kernel.guarantee`) runs in one configuration for every number of
    tokens, as `tuned.every_batch` chooses it. Nothing may be dropped then. On a CPU no kernel guarantees it.

    A call that needs no gradient saves nothing for a backward. Under autocast the experts run in its dtype, on a copy
    of the weights made in every call. In a graph of torch.compile or torch.export a call is one custom operator, which
    chooses the kernel when it runs (`expert_operators`); with ``load="observed"`` it runs between two graphs, and
    ``fullgraph=True`` refuses it. On the device ``meta`` a call returns a tensor of the right shape, differentiable,
    and no kernel runs. In float64, for checks of gradients, plain operations run in place of kernels.

    Raises:
        ValueError: at construction, for a size or option out of range, or a dispatch that is no kernel's name.
    """

    gate_up_proj: Tensor
    up_proj: Tensor
    down_proj: Tensor
    gate_up_proj_bias: Tensor
    up_proj_bias: Tensor
    down_proj_bias: Tensor

    def __init__(
        self,
        *,
        D: int,
        F: int,
        E: int,
        activation: Activation = "silu",
        gated: bool = True,
        bias: bool = False,
        dispatch: str = AUTO,
        capacity_factor: float | None = None,
        drop: DropPolicy = "first_come",
        batch_invariant: bool = False,
        load: LoadOption = "uniform",
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        check_dispatch(dispatch)
        if batch_invariant and capacity_factor is not None:
            raise ValueError(
                f"batch_invariant = True, but with capacity_factor = {capacity_factor!r} the other tokens of a batch "
                "decide who is dropped: give one of the two"
            )
        if load not in get_args(LoadOption):
            raise ValueError(f"load = {load!r}: give one of {', '.join(get_args(LoadOption))}")
        if batch_invariant and load == "observed":
            raise ValueError(
                "batch_invariant = True, but with load = 'observed' earlier calls decide which kernel runs: give one of"
                " the two"
            )
        self.dispatch = dispatch
        self.observed = ObservedLoad(E) if load == "observed" else None
        self.batch_invariant = batch_invariant
        dtype = dtype or torch.get_default_dtype()
        if dtype.itemsize == 1:
            raise ValueError(f"experts of {dtype} have scales, which this layer does not hold: {DEQUANTISE}")
        # Complete except for what each call brings: tokens, their K, the dtype and the mode.
        self.problem = Problem(
            T=0,
            D=D,
            F=F,
            E=E,
            K=1,
            activation=activation,
            gated=gated,
            bias=bias,
            capacity_factor=capacity_factor,
            drop=drop,
            router="softmax_topk",
        )
        if dtype != torch.float64:  # in which no kernel runs
            self.problem = self.problem.replace(dtype=dtype_name(dtype))
        U = self.problem.U
        shapes = {"w_up": (E, U, D), "w_down": (E, D, F), "b_up": (E, U), "b_down": (E, D)}
        for name, parameter in self._names().items():
            self.register_parameter(parameter, nn.Parameter(torch.empty(shapes[name], dtype=dtype, device=device)))
        self.reset_parameters()

    @classmethod
    def from_weights(cls, weights: Weights, *, activation: Activation = "silu", **options: Unpack[Options]) -> MoELayer:
        """Make a layer that shares these tensors; its experts are gated when the up projection has 2 F rows.

        Raises:
            ValueError: when shapes or dtypes do not go together.
        """
        named = weights.named()
        if scales := [name for name in named if name.startswith("s_")]:
            raise ValueError(f"weights have {' and '.join(scales)}, which this layer does not read: {DEQUANTISE}")
        found = ", ".join(f"{name} {tuple(tensor.shape)} {tensor.dtype}" for name, tensor in named.items())
        wanted = (
            "give w_up (E, U, D) with U = F or 2 F, w_down (E, D, F), both b_up (E, U) and b_down (E, D) or neither"
        )
        if not weights.w_up_EUD.ndim == weights.w_down_EDF.ndim == 3:
            raise ValueError(f"weights are {found}: {wanted}")
        (E, U, D), F, dtype = weights.w_up_EUD.shape, weights.w_down_EDF.shape[2], weights.w_up_EUD.dtype
        gated, bias = U == 2 * F, len(named) > 2
        layer = cls(D=D, F=F, E=E, activation=activation, gated=gated, bias=bias, dtype=dtype, device="meta", **options)
        if {name: (tensor.shape, tensor.dtype) for name, tensor in named.items()} != {
            name: (tensor.shape, tensor.dtype) for name, tensor in layer.weights.named().items()
        }:
            raise ValueError(f"weights are {found}: {wanted}, all of one dtype")
        for name, parameter in layer._names().items():
            tensor = named[name]
            setattr(layer, parameter, tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor))
        return layer

    @classmethod
    def from_experts(cls, experts: nn.Module, **options: Unpack[Options]) -> MoELayer:
        """Make a layer that shares the parameters of a transformers 5 experts module and computes the same.

        Matrices that lie transposed, or whose gate and up rows take turns, are copied (gpt-oss).

        Raises:
            ValueError: when the module has a parameter or buffer that would not be read, or computes something that no
                kernel here computes.
        """
        weights, activation = read_experts(experts)
        return cls.from_weights(weights, activation=activation, **options)

    def reset_parameters(self) -> None:
        """Draw the parameters as `torch.nn.Linear` does: uniform within 1 / sqrt(width), the width summed over."""
        for name, tensor in self.weights.named().items():
            bound = (self.problem.D if name.endswith("up") else self.problem.F) ** -0.5
            nn.init.uniform_(tensor, -bound, bound)

    @property
    def weights(self) -> Weights:
        """The parameters in the form that implementations take."""
        problem = self.problem
        w_up_EUD = self.gate_up_proj if problem.gated else self.up_proj
        if not problem.bias:
            return Weights(w_up_EUD=w_up_EUD, w_down_EDF=self.down_proj)
        b_up_EU = self.gate_up_proj_bias if problem.gated else self.up_proj_bias
        return Weights(w_up_EUD=w_up_EUD, w_down_EDF=self.down_proj, b_up_EU=b_up_EU, b_down_ED=self.down_proj_bias)

    def forward(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        """Apply the experts to tokens (T, D) or (B, S, D); the result has the same shape and dtype.

        It is differentiable in the tokens, ``top_k_weights`` and the parameters. ``top_k_index`` and ``top_k_weights``
        are (T, K) or (B, S, K). An id outside 0 … E − 1 is no route; its weight is not read.

        Raises:
            ValueError: when shapes, dtypes or devices do not go together, a parameter is spread over ranks, or no
                kernel supports the problem.
        """
        if self.observed is not None and torch.compiler.is_compiling():
            return _between_graphs(self, hidden_states, top_k_index, top_k_weights)
        # The weights may be computed when they are read: here once a call.
        return apply_experts(
            self.problem,
            self.weights,
            hidden_states,
            top_k_index,
            top_k_weights,
            dispatch=self.dispatch,
            batch_invariant=self.batch_invariant,
            observed=self.observed,
        )

    def extra_repr(self) -> str:
        names = ("D", "F", "E", "activation", "gated", "bias", "capacity_factor")
        return ", ".join(
            [
                *(f"{name}={getattr(self.problem, name)!r}" for name in names),
                f"dispatch={self.dispatch!r}",
                *(["batch_invariant=True"] if self.batch_invariant else []),
                *(["load='observed'"] if self.observed is not None else []),
            ]
        )

    def _names(self) -> dict[str, str]:
        """Return the names of its parameters by those of `Weights.named`."""
        up = "gate_up_proj" if self.problem.gated else "up_proj"
        biases = {"b_up": f"{up}_bias", "b_down": "down_proj_bias"} if self.problem.bias else {}
        return {"w_up": up, "w_down": "down_proj", **biases}


def _between_graphs(layer: MoELayer, *arguments: Tensor) -> Tensor:
    """Call a layer that observes its load from code that torch.compile traces.

    Raises:
        RuntimeError: under torch.export, where there is nothing between graphs.
    """
    if torch.compiler.is_exporting():
        raise RuntimeError(f"{BETWEEN_GRAPHS} to export it")
    torch._dynamo.graph_break(msg=f"{BETWEEN_GRAPHS}, or compile without fullgraph=True")  # noqa: SLF001
    # Made here, as torch._dynamo takes seconds to import.
    eager = torch.compiler.disable(MoELayer.forward, reason=BETWEEN_GRAPHS)
    return cast(Tensor, eager(layer, *arguments))
