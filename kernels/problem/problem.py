"""The problem: one MoE layer on one batch of tokens, with the FLOPs and bytes that it needs.

Shape letters, used everywhere as suffixes of tensors (``x_TD``, ``ids_TK``, ``w_up_EUD``):

    T  tokens                      K  experts per token
    D  model width                 N  routed rows, T * K
    F  hidden width of an expert   C  rows one expert may take (capacity)
    U  rows of the up projection:  G  granularity, d_ff / d_expert
       2 * F when gated, else F    R  ranks
    E  experts                     B  rows of a block or a tile
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Final, Literal, get_args

from ...common.errors import UserError
from .block import Block
from .capacity import CapacityRule, rows_of_expert
from .load import Load
from .router import Router
from .trace import label

Activation = Literal["silu", "gelu", "gelu_tanh", "relu", "relu2", "silu_clamp10", "swiglu_oai", "situ", "identity"]
ONLY_GATED: tuple[Activation, ...] = ("silu_clamp10", "swiglu_oai", "situ")  # they change the up half too
DType = Literal["float32", "float16", "bfloat16", "float8_e4m3fn"]
DropPolicy = Literal["first_come", "first_choices", "gate_weight"]
Mode = Literal["forward", "train"]

# Bytes of an element of tokens, outputs and biases, which are bfloat16 where the weights are float8_e4m3fn.
ELEMENT_BYTES: dict[str, int] = {"float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 2}
ROUNDING: tuple[DType, ...] = ("float32", "float16", "bfloat16", "float8_e4m3fn")  # from the finest to the coarsest
SCALE_BYTES = 4
ROUTE_BYTES = 8  # an int32 id and a float32 gate weight
ALIGNMENTS = (16, 8, 4, 2, 1)  # tried in turn by `scaled`: aligned widths multiply faster


LARGEST: Final = 10**18
"""The largest value of a field that is an integer: more than there is of anything."""


class InvalidProblem(UserError, ValueError):
    """An error in a problem's fields; the message names the value and the remedy."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One MoE layer on one batch, and the mode in which it runs.

    ``T`` counts the tokens of all ranks together. ``T = 0`` is valid. ``drop`` says which rows a full expert keeps:
    ``first_come`` in token order; ``first_choices`` in token order too, but all first choices before all second ones
    (GShard, Lepikhin et al. 2020, algorithm 1); or ``gate_weight``, the batch priority of V-MoE (Riquelme et al. 2021,
    section 4.1). ``capacity_rule`` is one of `capacity`. Neither has an effect when ``capacity_factor`` is None, which
    means dropless. With ``bias`` each product of an expert adds a bias vector (gpt-oss). The formulas of ``activation``
    are those of `torch_ops.activations`.

    ``router`` is a text that `Router.parse` reads, ``load`` one that `Load.parse` reads. ``K`` is the number of experts
    per token; of a router that gives tokens different numbers of experts it is their mean.

    With ``dtype`` float8_e4m3fn the weights are stored in it, with one float32 scale for every output row of an expert;
    tokens and outputs are bfloat16, and the products may round tokens and hidden rows to float8_e4m3fn too (W8A8, as
    serving engines run it). It is for inference: there is no training step.

    ``block`` is a text that `Block.parse` reads, and "" for experts alone. D and T are those of the whole layer; FLOPs
    and bytes count all that it computes.

    ``wire`` is the format in which rows travel between ranks; None means the format in which they are stored. Tokens in
    float8_e4m3fn have a float32 scale for every 128 elements; returning rows and gradients keep their stored format.

    Raises:
        InvalidProblem: at construction, for any value outside its range.
    """

    T: int
    D: int
    F: int
    E: int
    K: int
    gated: bool = True
    activation: Activation = "silu"
    dtype: DType = "float32"
    capacity_factor: float | None = None
    drop: DropPolicy = "first_come"
    router: str = "softmax_topk_renorm"
    load: str = "uniform"
    mode: Mode = "forward"
    ranks: int = 1
    seed: int = 0
    bias: bool = False
    wire: DType | None = None
    capacity_rule: CapacityRule = "ceil"
    block: str = ""

    def __post_init__(self) -> None:
        self._check_each_field()
        self._check_fields_together()
        self._check_router()
        self._check_block()

    def _check_each_field(self) -> None:
        for name, smallest in (("T", 0), ("D", 1), ("F", 1), ("E", 1), ("K", 1), ("ranks", 1), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < smallest:
                raise InvalidProblem(f"{name} = {value!r}: give an integer of at least {smallest}")
            if value > LARGEST:
                raise InvalidProblem(f"{name} is larger than any there is: give an integer of at most {LARGEST}")
        for name, choices in (
            ("gated", Literal[True, False]),
            ("bias", Literal[True, False]),
            ("activation", Activation),
            ("dtype", DType),
            ("drop", DropPolicy),
            ("capacity_rule", CapacityRule),
            ("mode", Mode),
            ("wire", Literal[DType, None]),
        ):
            if getattr(self, name) not in get_args(choices):
                valid = ", ".join(str(choice) for choice in get_args(choices))
                raise InvalidProblem(f"{name} = {getattr(self, name)!r}: give one of {valid}")
        for name in ("router", "load", "block"):
            if not isinstance(getattr(self, name), str):
                raise InvalidProblem(f"{name} = {getattr(self, name)!r}: give a text")
        factor = self.capacity_factor
        if factor is not None and not _is_positive_number(factor):
            raise InvalidProblem(
                f"capacity_factor = {factor!r}: give a positive number, or leave it out (None) for dropless"
            )

    def _check_fields_together(self) -> None:
        if self.K > self.E:
            raise InvalidProblem(f"K = {self.K} experts per token, but only E = {self.E} experts: give K <= E")
        if self.ranks > self.E:
            raise InvalidProblem(f"ranks = {self.ranks}, but only E = {self.E} experts: give ranks <= E")
        if self.wire is not None and self.ranks == 1:
            raise InvalidProblem(f"wire = {self.wire!r}, but nothing travels with ranks = 1: give more ranks, or None")
        if self.activation in ONLY_GATED and not self.gated:
            raise InvalidProblem(
                f"activation = {self.activation!r} is of experts with a gate and an up half: give gated = True"
            )
        if self.quantised and self.mode == "train":
            raise InvalidProblem(
                f"mode = 'train', but weights of dtype = {self.dtype!r} have no gradients: give mode = 'forward', or"
                " another dtype"
            )
        try:
            Load.parse(self.load).check(experts=self.E, chosen=self.K)
        except ValueError as error:
            raise InvalidProblem(str(error)) from error

    def _check_router(self) -> None:
        """Check the router, and replace its text by the canonical one, so that equal problems have equal keys."""
        try:
            router = Router.parse(self.router)
        except ValueError as error:
            raise InvalidProblem(str(error)) from error
        if router.of_batch and Load.parse(self.load).trace is not None:
            raise InvalidProblem(
                f"router = {self.router!r} chooses for all tokens together, and load = {label(self.load)!r} has the "
                "choices of another router: give a router whose tokens choose, or a load that is not recorded"
            )
        if reason := router.refuses(self):
            raise InvalidProblem(f"router = {self.router!r} {reason}")
        object.__setattr__(self, "router", router.spec)

    def _check_block(self) -> None:
        """Check the block, and replace its text by the canonical one."""
        if not self.block:
            return
        try:
            block = Block.parse(self.block)
        except ValueError as error:
            raise InvalidProblem(str(error)) from error
        reason = f"has all experts on one rank: give ranks = 1, not {self.ranks}" if self.ranks > 1 else None
        if reason := reason or block.refuses(self):
            raise InvalidProblem(f"block = {self.block!r} {reason}")
        object.__setattr__(self, "block", block.spec)
        _ = self.core  # an error in the problem of the experts is one of this problem

    @property
    def around(self) -> Block | None:
        """The block around the experts, None for a plain layer."""
        return Block.parse(self.block) if self.block else None

    @property
    def core(self) -> Problem:
        """The problem of the experts alone, for which kernels are built: this one, unless there is a block."""
        return self if self.around is None else self.around.core(self)

    @property
    def key(self) -> str:
        """All fields as one readable, stable text: equal keys are equal problems."""
        capacity = "dropless" if self.capacity_factor is None else f"cf{float(self.capacity_factor)}"
        activation = f"{self.activation}-glu" if self.gated else self.activation
        # These are suffixes, so that problems without them keep the keys of older records.
        bias, wire = ".bias" if self.bias else "", f".wire-{self.wire}" if self.wire else ""
        rule = f".capacity-{self.capacity_rule}" if self.capacity_rule != "ceil" else ""
        block = f".block-{self.block}" if self.block else ""
        return (
            f"T{self.T}.D{self.D}.F{self.F}.E{self.E}.K{self.K}.{activation}.{self.dtype}.{capacity}-{self.drop}"
            f".{self.router}.{label(self.load)}.{self.mode}.r{self.ranks}.s{self.seed}{bias}{wire}{rule}{block}"
        )

    @property
    def quantised(self) -> bool:
        """True if the weights have scales."""
        return self.dtype == "float8_e4m3fn"

    @property
    def held(self) -> DType:
        """The dtype of tokens, results and biases in memory."""
        return "bfloat16" if self.quantised else self.dtype

    @property
    def rounding(self) -> DType:
        """The coarsest format that values pass through, which bounds a result's error."""
        return max((self.dtype, self.wire or self.dtype), key=ROUNDING.index)

    @property
    def operand_bytes(self) -> int:
        """Bytes of an element of a weight, and of the tokens that it is multiplied with."""
        return 1 if self.quantised else ELEMENT_BYTES[self.dtype]

    @property
    def N(self) -> int:
        """Routed rows before any drop, T * K."""
        return self.T * self.K

    @property
    def U(self) -> int:
        """Rows of the up projection: the gate half and the up half together when gated."""
        return 2 * self.F if self.gated else self.F

    @property
    def tokens_per_rank(self) -> int:
        """Tokens of the fullest rank; the last ranks may hold fewer."""
        return math.ceil(self.T / self.ranks)

    @property
    def capacity(self) -> int | None:
        """C, the rows one expert takes from one rank's tokens; None when dropless.

        By default ``C = clamp(ceil(capacity_factor * T * K / E), 1, T)`` with T the tokens of one rank, as GShard
        counts capacity in each local group (Lepikhin et al. 2020, section 2.2); `capacity` has the other rules.
        """
        if self.capacity_factor is None:
            return None
        return rows_of_expert(self.capacity_rule, self.capacity_factor, T=self.tokens_per_rank, K=self.K, E=self.E)

    @property
    def leaves_out(self) -> bool:
        """True if some routes may be absent, by the router or by the load."""
        return Router.parse(self.router).leaves_out or Load.parse(self.load).leaves_out

    def replace(self, **changes: object) -> Problem:
        """Return the problem with some fields changed, validated again."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]  # checked in __post_init__

    def refine(self, granularity: int) -> Problem:
        """Split every expert in ``granularity``; parameters and useful FLOPs stay (Krajewski et al. 2024, sec. 3)."""
        if granularity < 1 or self.F % granularity:
            raise InvalidProblem(f"granularity = {granularity} does not divide F = {self.F}: give a divisor of it")
        around = self.around and dataclasses.replace(self.around, **self.around.widths(self))
        return self.replace(
            F=self.F // granularity,
            E=self.E * granularity,
            K=self.K * granularity,
            block=around.spec if around else "",
        )

    def scaled(self, D: int) -> Problem:
        """Return the largest problem of width at most ``D`` with this E, K and F / D, at the best alignment.

        The widths of a block keep their ratio to D too, rounded down.
        """
        divisor = math.gcd(self.D, self.F)
        width, hidden = self.D // divisor, self.F // divisor
        for alignment in ALIGNMENTS:
            step = width * alignment
            if step <= D:
                times = D // step * alignment
                block = self.around.scaled(self, width * times).spec if self.around else ""
                return self.replace(D=width * times, F=hidden * times, block=block)
        raise InvalidProblem(f"D = {D} is too narrow to keep F / D = {hidden}/{width}: give at least {width}")

    def dense(self) -> Problem:
        """Return the problem of one expert for all N rows, with the same useful FLOPs as this one without drops."""
        return self.replace(
            T=self.N,
            E=1,
            K=1,
            capacity_factor=None,
            load="uniform",
            ranks=1,
            wire=None,
            router=Router.parse(self.router).for_fewer_experts().spec,
        )

    def flops(self, rows: float) -> int:
        """Return the FLOPs of the expert products on ``rows`` rows, three times as many in a training step.

        With a block they are those of the whole layer.
        """
        if self.around is not None:
            return self.around.flops(self, rows)
        products = 3 if self.gated else 2
        steps = 3 if self.mode == "train" else 1
        return int(2 * rows * self.D * self.F * products * steps)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights, biases and scales included."""
        if self.around is not None:
            return self.core.weight_bytes + self._own_bytes
        bias_bytes = ELEMENT_BYTES[self.dtype] if self.bias else 0
        scale_bytes = SCALE_BYTES if self.quantised else 0
        matrices = self.D * (self.U + self.F) * self.operand_bytes
        return self.E * (matrices + (self.U + self.D) * (bias_bytes + scale_bytes))

    @property
    def token_bytes(self) -> int:
        """Bytes of one (T, D) tensor."""
        return self.T * self.D * ELEMENT_BYTES[self.dtype]

    def ideal_bytes(self, touched_experts: int) -> int:
        """Return the bytes of every input, every weight of an expert that receives a token, and every output.

        Each is moved once. A training step reads x, dy, the weights and the routes, and writes y, dx, the gradients of
        all weights (zeros count) and of the gate weights.
        """
        return self.read_bytes(touched_experts) + self.output_bytes

    def read_bytes(self, touched_experts: int) -> int:
        """Return the bytes of every input and of every weight of an expert that receives a token, read once."""
        tokens = self.token_bytes * (2 if self.mode == "train" else 1)
        core = self.core
        touched = core.weight_bytes // core.E * touched_experts
        return tokens + touched + self._own_bytes + core.N * ROUTE_BYTES

    @property
    def _own_bytes(self) -> int:
        """Bytes of the tensors of the block."""
        shapes = self.around.shapes(self).values() if self.around is not None else ()
        return sum(rows * columns for rows, columns in shapes) * ELEMENT_BYTES[self.dtype]

    @property
    def input_bytes(self) -> int:
        """Bytes of what exists before an implementation runs: x, the weights, the routes, and in training dy."""
        return self.read_bytes(self.E)

    @property
    def output_bytes(self) -> int:
        """Bytes of y, and in training of the gradients of x, the weights and the gate weights."""
        if self.mode == "forward":
            return self.token_bytes
        return 2 * self.token_bytes + self.weight_bytes + self.core.N * 4


def _is_positive_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
