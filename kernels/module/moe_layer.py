"""The experts of an MoE block as a torch module, which runs any implementation of this package."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Literal, TypedDict, Unpack, cast, get_args

import torch
from torch import Tensor, nn

from ...common.names import unknown
from ..catalog import KERNELS
from ..kernel import Layer
from ..problem import Activation, DropPolicy, Mode, Problem
from ..problem.routing import NO_ROUTE, Routing
from ..problem.tensors import Weights
from ..torch_ops.activations import activate
from ..tuned.every_batch import choose_for_every_batch
from ..tuned.select import AUTO, Choice, choose
from .hugging_face import DEQUANTISE, read_experts
from .observed_load import ObservedLoad

_log = logging.getLogger(__name__)

BUILDS = 256  # prompts differ in length, and each length needs another build; a build holds no tensors
BETWEEN_GRAPHS = (
    "MoELayer runs between two graphs of torch.compile, not inside one: it chooses a kernel for each number of tokens, "
    "and most kernels read on the host how many rows each expert has. Compile without fullgraph=True"
)


LoadOption = Literal["uniform", "observed"]
_choose_nearest = partial(choose, nearest=True)


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

    A call that needs no gradient saves nothing for a backward. A call that needs any gradient computes all of them, so
    frozen weights save no time. Under autocast the experts run in its dtype, on a copy of the weights made in every
    call. Under torch.compile the layer runs as it does without, between two graphs: ``fullgraph=True`` refuses it. On
    the device ``meta`` a call returns a tensor of the right shape, differentiable, and no kernel runs.

    Raises:
        ValueError: at construction, for a size or option out of range, or a dispatch that is no kernel's name.
    """

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
        if dispatch not in (AUTO, *KERNELS.names()):
            raise unknown("kernel", dispatch, [AUTO, *KERNELS.names()])
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
        ).replace(dtype=_name(dtype))
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
        found = {name: getattr(self, parameter) for name, parameter in self._names().items()}
        return Weights(
            w_up_EUD=found["w_up"], w_down_EDF=found["w_down"], b_up_EU=found.get("b_up"), b_down_ED=found.get("b_down")
        )

    def forward(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        """Apply the experts to tokens (T, D) or (B, S, D); the result has the same shape and dtype.

        It is differentiable in the tokens, ``top_k_weights`` and the parameters. ``top_k_index`` and ``top_k_weights``
        are (T, K) or (B, S, K). An id outside 0 … E − 1 is no route; its weight is not read.

        Raises:
            ValueError: when shapes, dtypes or devices do not go together, a parameter is spread over ranks, or no
                kernel supports the problem.
        """
        if torch.compiler.is_compiling():
            return _between_graphs(self, hidden_states, top_k_index, top_k_weights)
        return self.apply_experts(hidden_states, top_k_index, top_k_weights)

    def apply_experts(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        """Do what `forward` does, outside of graphs."""
        # The only place that reads the parameters: each may be computed when it is read, by a parametrisation.
        weights = self.weights
        autocast = _autocast_dtype(hidden_states.device)
        self._check(hidden_states, top_k_index, top_k_weights, weights, autocast)
        if any(hasattr(tensor, "to_local") for tensor in weights.named().values()):
            weights = weights.map(_local_part)
        T, K = hidden_states.numel() // self.problem.D, top_k_index.shape[-1]
        x_TD = hidden_states if hidden_states.ndim == 2 else hidden_states.reshape(T, self.problem.D)
        routing = Routing(
            ids_TK=_routes(top_k_index.reshape(T, K), self.problem.E),
            gates_TK=top_k_weights.reshape(T, K).float(),
            experts=self.problem.E,
        )
        leaves = (x_TD, routing.gates_TK, *weights.named().values())
        if x_TD.device.type == "meta":
            return self._without_values(x_TD, routing, weights).view(hidden_states.shape)
        mode: Mode = "train" if torch.is_grad_enabled() and any(leaf.requires_grad for leaf in leaves) else "forward"
        load = self.observed.of_call(routing) if self.observed is not None else None
        choose_one = choose_for_every_batch if self.batch_invariant else choose if load is None else _choose_nearest
        layer = _built(self.problem, T, K, load, mode, autocast or x_TD.dtype, x_TD.device, self.dispatch, choose_one)
        if autocast is None:
            y_TD = layer(x_TD, routing, weights)
            return y_TD if x_TD is hidden_states else y_TD.view(hidden_states.shape)
        with torch.autocast(x_TD.device.type, enabled=False):
            y_TD = layer(x_TD.to(autocast), routing, weights.map(lambda tensor: tensor.to(autocast)))
        return y_TD.to(x_TD.dtype).view(hidden_states.shape)

    def _without_values(self, x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
        """Return a result that has a shape, a dtype and gradients, but no values: all tokens through one expert."""
        h_TU, y_TD = x_TD @ weights.w_up_EUD[0].T, routing.gates_TK.sum(1, keepdim=True).to(x_TD.dtype)
        if weights.b_up_EU is not None and weights.b_down_ED is not None:
            h_TU, y_TD = h_TU + weights.b_up_EU[0], y_TD + weights.b_down_ED[0]
        return y_TD * (activate(self.problem, h_TU) @ weights.w_down_EDF[0].T)

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

    def _check(self, x: Tensor, ids: Tensor, gates: Tensor, weights: Weights, autocast: torch.dtype | None) -> None:
        D, weight = self.problem.D, weights.w_down_EDF
        for name, tensor in (("hidden_states", x), ("top_k_index", ids), ("top_k_weights", gates)):
            if hasattr(tensor, "to_local"):
                raise ValueError(f"{name} is a DTensor: give the tokens of this rank, {name}.to_local()")
        if x.ndim not in (2, 3) or x.shape[-1] != D:
            raise ValueError(f"hidden_states have shape {tuple(x.shape)}: give (T, {D}) or (B, S, {D})")
        tokens = x.shape[:-1]
        if ids.shape != gates.shape or ids.shape[:-1] not in (tokens, (tokens.numel(),)):
            raise ValueError(
                f"top_k_index is {tuple(ids.shape)}, top_k_weights {tuple(gates.shape)}: for hidden_states "
                f"{tuple(x.shape)} give both as ({tokens.numel()}, K)"
            )
        if ids.dtype == torch.bool:
            raise ValueError(
                f"top_k_index is torch.bool, a map of tokens to experts: give the ids of each token's experts, such as "
                f"top_k_weights.topk(K).indices, as integers ({tokens.numel()}, K), and their weights"
            )
        if ids.is_floating_point() or not gates.is_floating_point():
            raise ValueError(f"top_k_index is {ids.dtype}, top_k_weights {gates.dtype}: give integers and floats")
        if autocast is None and x.dtype != weight.dtype:
            raise ValueError(
                f"hidden_states are {x.dtype}, the experts {weight.dtype}: convert either, or use autocast"
            )
        if {ids.device, gates.device, weight.device} != {x.device}:
            raise ValueError(
                f"hidden_states are on {x.device}, top_k_index on {ids.device}, top_k_weights on {gates.device}, the "
                f"experts on {weight.device}: bring them to one device"
            )


@lru_cache(maxsize=BUILDS)
def _built(
    problem: Problem,
    T: int,
    K: int,
    load: str | None,
    mode: Mode,
    dtype: torch.dtype,
    device: torch.device,
    dispatch: str,
    choose_one: Callable[[Problem, torch.device, str], Choice],
) -> Layer:
    """Build once for every problem. All modules share a build, which keeps nothing of a call."""
    problem = problem.replace(T=T, K=K, load=load or problem.load, mode=mode, dtype=_name(dtype))
    chosen = choose_one(problem, device, dispatch)
    _log.info("%s on %s: %s, %s", problem.key, device, chosen.kernel.name, chosen.why)
    return chosen.build(problem, device)


def _between_graphs(layer: MoELayer, *arguments: Tensor) -> Tensor:
    """Call a layer from code that torch.compile traces.

    Raises:
        RuntimeError: under torch.export, where there is nothing between graphs.
    """
    if torch.compiler.is_exporting():
        raise RuntimeError(f"{BETWEEN_GRAPHS}, and export the block with the experts of transformers")
    torch._dynamo.graph_break(msg=BETWEEN_GRAPHS)  # noqa: SLF001  # documented under this name only
    # Made here, as torch._dynamo takes seconds to import.
    eager = torch.compiler.disable(MoELayer.apply_experts, reason=BETWEEN_GRAPHS)
    return cast(Tensor, eager(layer, *arguments))


def _routes(ids_TK: Tensor, experts: int) -> Tensor:
    """Return the ids as int32, −1 where they name no expert."""
    if ids_TK.device.type == "cpu" and ids_TK.numel():  # two numbers say that all name one, which takes a third
        lowest, highest = ids_TK.aminmax()
        if int(lowest) >= 0 and int(highest) < experts:
            return ids_TK.int()
    return torch.where((ids_TK >= 0) & (ids_TK < experts), ids_TK, NO_ROUTE).int()


def _local_part(parameter: Tensor) -> Tensor:
    """Return a parameter as a plain tensor.

    Raises:
        ValueError: when this rank holds only a part of it.
    """
    if not hasattr(parameter, "to_local"):
        return parameter
    sharded: Any = parameter  # a DTensor, whose module takes long to import
    if sharded.device_mesh.size() > 1 and not all(placement.is_replicate() for placement in sharded.placements):
        raise ValueError(
            f"a parameter of shape {tuple(sharded.shape)} is a DTensor, {sharded.placements} over "
            f"{sharded.device_mesh.size()} ranks, and a layer computes all of its experts: let fully_shard gather it "
            "before the forward, or make a layer of each rank's experts, MoELayer.from_weights of the parts that "
            "to_local() gives, and pass it only their routes, numbered from 0, with -1 for the others"
        )
    return cast(Tensor, sharded.to_local())


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _autocast_dtype(device: torch.device) -> torch.dtype | None:
    if torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type)
    return None
