"""Every implementation, found by name, against the float64 reference; a new one is tested by being in the folder.

On a machine with a GPU the implementations run there. An implementation is run on the problems that it supports; for
the others its refusal is tested instead.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import combinations
from typing import Any

import pytest
import torch
from covering_configs import cover, covering
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from moebench.execution.trial.checks.accuracy import errors, verdict
from moebench.execution.trial.reference_check import ReferenceCheck, Subject, call
from moebench.kernels.catalog import KERNELS
from moebench.kernels.config import Config
from moebench.kernels.implementations import grouped
from moebench.kernels.implementations._triton import TritonKernel
from moebench.kernels.kernel import Cost, Kernel, Layer
from moebench.kernels.oracle import Result, drop, oracle, reference
from moebench.kernels.problem import Problem
from moebench.kernels.problem.routing import NO_ROUTE, Routing
from moebench.kernels.problem.tensors import Inputs, draw_inputs, draw_weights
from moebench.kernels.question import LAYER
from moebench.results.record import Error
from moebench.results.timing.memory import peak

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# The kernels that compute the layer; matmul, a reference rate that computes something else, has its own tests below.
NAMES = [name for name in KERNELS.names() if KERNELS.load(name).question is LAYER]
BASE = Problem(T=23, D=48, F=32, E=5, K=2, mode="train")
SINGLE = BASE.replace(E=1, K=1)  # every implementation supports it, a single dense chain too
PLAIN = SINGLE.replace(mode="forward", D=128, F=128)
BIASED = BASE.replace(bias=True)
HALF = Problem(T=12, D=64, F=64, E=4, K=2, dtype="float16", mode="train")
SPREAD = BASE.replace(T=900, D=16, F=128, E=3, load="hot")

Changes = dict[str, object]
TRAINED = ("float32", "float16", "bfloat16")

DTYPES: list[Changes] = [
    {"dtype": dtype, "gated": gated, "activation": activation}
    for dtype in TRAINED
    for gated in (True, False)
    for activation in ("silu", "gelu", "relu")
]
WIDTHS: list[Changes] = [
    {"D": D, "F": F, "dtype": dtype}
    for D, F in ((48, 100), (100, 72), (72, 48), (7, 5), (1, 1))
    for dtype in ("float32", "bfloat16")
]
MANY_EXPERTS = 60
EXPERTS: list[Changes] = [
    {"E": 1, "K": 1},
    {"E": 1, "K": 1, "D": 72, "F": 100, "gated": False, "activation": "gelu"},
    {"E": 3, "K": 2},
    {"E": 3, "K": 3},
    {"E": MANY_EXPERTS, "K": 7},
    {"E": MANY_EXPERTS, "K": MANY_EXPERTS, "T": 5},
    {"E": 3, "K": 1, "router": "switch"},
    {"router": "softmax_topk"},
    {"E": 8, "router": "sigmoid_topk:groups=4,top_groups=2,bias=0.1,scale=2.5"},
]
TOKENS: list[Changes] = [
    {"T": 0},
    {"T": 1},
    {"T": 1, "K": 5},
    {"T": 0, "capacity_factor": 1.0},
    {"T": 1, "capacity_factor": 1.0},
]
LOADS: list[Changes] = [{"load": load, "K": K} for load in ("hot", "zipf:1.5", "empty:0.5") for K in (1, 3)]
CAPACITIES: list[Changes] = [
    {"capacity_factor": factor, "drop": policy, **changes}
    for factor in (0.5, 1.0, 1.25, 4.0)
    for policy in ("first_come", "gate_weight")
    for changes in ({"load": "zipf:1.5"}, {"E": MANY_EXPERTS, "T": 3, "dtype": "bfloat16"})  # so many that E * C > N
] + [{"capacity_factor": 0.5, "drop": "first_choices", "K": 3, "load": "zipf:1.5"}]
BIASES: list[Changes] = [
    {"bias": True, "gated": gated, "dtype": dtype, **changes}
    for gated in (True, False)
    for dtype in TRAINED
    for changes in ({}, {"load": "empty:0.5", "K": 3}, {"T": 0}, {"E": 1, "K": 1}, {"capacity_factor": 0.5})
]
QUANTISED: list[Changes] = [  # without a training step
    {"dtype": "float8_e4m3fn", **changes}
    for changes in (
        {},
        {"gated": False, "activation": "gelu", "D": 100, "F": 72},
        {"bias": True, "load": "empty:0.5", "K": 3},
        {"T": 0},
        {"capacity_factor": 0.5, "drop": "gate_weight"},
        {"E": 1, "K": 1, "D": 1, "F": 1},
    )
]
ON_A_GPU: list[Changes] = [  # each shape costs another compilation
    {"T": 300, "D": D, "F": F, "dtype": dtype, **changes}
    for D, F in ((96, 64), (100, 72))
    for dtype in TRAINED
    for changes in ({}, {"capacity_factor": 1.25, "load": "zipf:1"})
]
PROBLEMS = [
    BASE.replace(mode=mode, **changes)
    for changes in (*DTYPES, *WIDTHS, *EXPERTS, *TOKENS, *LOADS, *CAPACITIES, *BIASES, *ON_A_GPU)
    for mode in ("forward", "train")
] + [BASE.replace(mode="forward", **changes) for changes in QUANTISED]
SUPPORTED = {
    kernel.name: [
        problem for problem in PROBLEMS if kernel.supports(problem, DEVICE) is None and kernel.answers(problem)
    ]
    for kernel in map(KERNELS.load, NAMES)
}
INTERPRETED = [name for name in NAMES if isinstance(KERNELS.load(name), TritonKernel) and DEVICE.type == "cpu"]
BETWEEN_RANKS = {name: KERNELS.load(name).between_ranks and DEVICE.type == "cpu" for name in NAMES}
THINNED = [*INTERPRETED, "scatter"]  # their spaces are covered by pairs; test_scatter.py runs the whole space


def key(value: object) -> str | None:
    return value.key if isinstance(value, Problem) else None


FIRST_ON_A_GPU = {BASE.replace(**changes).key for changes in ON_A_GPU}


def marked(name: str, problem: Problem) -> list[pytest.MarkDecorator]:
    """Return ``gpu`` for what `nox -s gpu` runs, ``slow`` or ``exhaustive`` for what other cases cover."""
    first = [pytest.mark.gpu] if problem.key in FIRST_ON_A_GPU else []
    if name in INTERPRETED and once_more(problem):
        return [*first, pytest.mark.slow]
    return [*first, pytest.mark.exhaustive] if name in COVERED and problem not in COVERED[name] else first


def once_more(problem: Problem) -> bool:
    """Return whether other points cover this one: a training step has the forward; activations ignore the dtype."""
    if problem.mode == "forward":
        return not problem.quantised
    return problem.dtype != "float32" and problem.activation != "silu"


def features(problem: Problem) -> set[tuple[object, ...]]:
    """Return what a Triton kernel makes of a problem: each value, and in pairs what its code has branches for."""
    fields = {name: value for name, value in dataclasses.asdict(problem).items() if name not in ("D", "F", "mode")}
    branches = [(name, fields[name]) for name in ("activation", "bias", "dtype", "gated")]
    return {*fields.items(), ("D, F", problem.D, problem.F), *combinations(branches, 2)}


def few(name: str) -> list[Problem]:
    """Return problems that have all features between them, of those that the interpreter has time for."""
    problems = [problem for problem in SUPPORTED[name] if not once_more(problem)]
    if name in INTERPRETED:
        problems = [p for p in problems if p.key not in FIRST_ON_A_GPU and p.E != MANY_EXPERTS]
    return cover(problems, features)


COPYING = "transformers_batched_mm"  # it copies weights for every route, which takes seconds of the larger cases
# Of kernels that are interpreted, and of those between ranks: their experts are another kernel's, with all its cases.
COVERED = {name: few(name) for name in NAMES if name in INTERPRETED or BETWEEN_RANKS[name] or name == COPYING}


def cases() -> Iterator[Any]:
    """Yield (name, problems): a training step is one case with its forward pass alone, unless they are interpreted."""
    for name in NAMES:
        apart = name in INTERPRETED
        steps = [problem for problem in SUPPORTED[name] if problem.mode == "train" and not apart]
        forward = {step.replace(mode="forward") for step in steps}
        for problem in SUPPORTED[name]:
            if problem not in forward:
                problems = (
                    [problem] if apart or problem.mode == "forward" else [problem.replace(mode="forward"), problem]
                )
                yield pytest.param(name, problems, id=f"{name}-{problem.key}", marks=marked(name, problem))


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Use one thread: tensors this small take longer on many threads, and far longer where the cores are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def draw(problem: Problem, seed: int = 1) -> Inputs:
    return draw_inputs(problem, draw_weights(problem, seed=0, device=DEVICE), seed=seed, device=DEVICE)


@cache
def drawn_and_solved(problem: Problem) -> tuple[Inputs, Result]:
    inputs = draw(problem)
    return inputs, reference(problem, inputs)


def routed(inputs: Inputs, ids_TK: Tensor) -> Inputs:
    """Return the inputs with their tokens routed to other experts."""
    routing = dataclasses.replace(inputs.routing, ids_TK=ids_TK.to(DEVICE, torch.int32))
    return dataclasses.replace(inputs, routing=routing)


def assert_close(found: dict[str, Error], dtype: str) -> None:
    assert verdict(found, dtype) is None


def build(kernel: Kernel, problem: Problem, config: Config | None = None) -> Layer:
    return kernel.build(problem, kernel.space(problem, DEVICE)[0] if config is None else config, DEVICE)


def assert_right(problem: Problem, layer: Layer, inputs: Inputs, expected: Result | None = None) -> None:
    """Check results and gradients against the reference within the dtype's bounds, and that inputs are unchanged."""
    expected = expected or reference(problem, inputs)
    if problem.mode == "train":
        inputs.requires_grad_()
    kept = drop(problem, inputs.routing)
    check = ReferenceCheck.of(inputs, expected, routed=inputs.routing, kept=kept)
    found: list[Result] = []

    def take() -> Result:
        found.append(call(problem, layer, inputs))
        return found[0]

    assert_close(check.grade(take), problem.dtype)
    assert found[0].y_TD.dtype == inputs.x_TD.dtype
    for name, gradient in found[0].gradients.items():
        assert gradient.dtype == inputs.differentiable()[name].dtype, name


def supporting(
    problem: Problem, *, also: Problem | None = None, without: tuple[str, ...] = (), long: bool = False
) -> pytest.MarkDecorator:
    """Run a test with every implementation that supports a problem and is of no family in ``without``.

    A ``long`` test is slow where Triton is interpreted.
    """
    kernels = [kernel for name in NAMES if (kernel := KERNELS.load(name)).family not in without]
    fitting = [k for k in kernels if any(p and k.supports(p, DEVICE) is None for p in (problem, also))]
    slow = [pytest.mark.slow] if long else []
    cases = [pytest.param(k, id=k.name, marks=slow if k.name in INTERPRETED else []) for k in fitting]
    return pytest.mark.parametrize("kernel", cases)


def quick(kernel: Kernel, problem: Problem) -> Problem:
    """Return the problem, with fewer experts where the kernel is interpreted: several calls of it are made."""
    return problem.replace(T=20, E=2) if kernel.name in INTERPRETED else problem


def biased(name: str) -> Problem:
    """Return the problem with biases, if the kernel takes them, or without."""
    return BIASED if KERNELS.load(name).supports(BIASED, DEVICE) is None else BASE


modes = pytest.mark.parametrize("mode", ["forward", "train"])
either_bias = pytest.mark.parametrize(
    ("kernel", "problem"),
    [
        pytest.param(
            KERNELS.load(name),
            problem,
            id=f"{name}{'-bias' if problem.bias else ''}",
            marks=[] if problem == biased(name) or name not in INTERPRETED else pytest.mark.exhaustive,
        )
        for problem in (BASE, BIASED)
        for name in NAMES
        if KERNELS.load(name).supports(problem, DEVICE) is None
    ],
)


def test_some_implementations_take_biases() -> None:
    """Without such implementations the tests of biases below would test nothing."""
    assert {name for name in NAMES if KERNELS.load(name).supports(BIASED, DEVICE) is None} >= {
        "loop",
        "grouped",
        "scatter",
    }


@pytest.mark.parametrize(("name", "problems"), list(cases()))
def test_output_and_gradients_equal_the_reference(name: str, problems: list[Problem]) -> None:
    for problem in problems:
        inputs, expected = drawn_and_solved(problem)
        assert_right(problem, build(KERNELS.load(name), problem), inputs.clone(), expected)


LIMITED = [
    BASE.replace(T=15, D=24, E=3, activation=activation, gated=activation not in ("relu2", "identity"), bias=bias)
    for activation in ("gelu_tanh", "relu2", "silu_clamp10", "swiglu_oai", "situ", "identity")
    for bias in (False, True)
]


def fast(name: str, problem: Problem) -> bool:
    """Return whether the interpreter runs this by default: all activations in one kernel, one in all kernels."""
    return name not in INTERPRETED or (
        problem.bias is (name == "triton_scatter") and (problem.bias or problem.activation == "situ")
    )


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        pytest.param(name, fitting, marks=[] if fast(name, problem) else pytest.mark.slow)
        for name in NAMES
        for problem in LIMITED
        for fitting in [problem.replace(capacity_factor=3.0) if name == "triton_padded" else problem]
        if KERNELS.load(name).supports(fitting, DEVICE) is None and KERNELS.load(name).answers(fitting)
    ],
    ids=key,
)
def test_activations_equal_the_reference_beyond_their_limits(name: str, problem: Problem) -> None:
    """Tokens are so large that many hidden values are beyond the limits of 7 and 10, on both sides."""
    inputs = draw(problem)
    inputs.x_TD.mul_(8)
    assert_right(problem, build(KERNELS.load(name), problem), inputs)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in INTERPRETED])
def test_activations_of_sixteen_bits_equal_the_reference(name: str) -> None:
    kernel = KERNELS.load(name)
    for problem in (
        problem.replace(dtype="bfloat16", mode=mode) for problem in LIMITED for mode in ("forward", "train")
    ):
        if kernel.supports(problem, DEVICE) is None and kernel.answers(problem):
            assert_right(problem, build(kernel, problem), draw(problem))


@pytest.mark.parametrize("name", NAMES)
def test_refusals_name_a_value_of_the_problem_or_are_the_machines(name: str) -> None:
    """A refusal has the form ``field = value`` with the problem's value; what the machine lacks is the same for all."""
    kernel = KERNELS.load(name)
    for problem in PROBLEMS:
        reason = kernel.supports(problem, DEVICE)
        if reason is None:
            continue
        assert len(reason.split()) > 3, f"a sentence, not a word: {reason}"
        named = re.findall(r"(\w+) = ([^\s,;]+)", reason)
        assert {field: str(getattr(problem, field, "")).removesuffix(".0") for field, _ in named} == dict(named)
        assert named or kernel.supports(PLAIN, DEVICE) == reason, problem.key


@either_bias
def test_the_oracle_itself_agrees(kernel: Kernel, problem: Problem) -> None:
    """Compare with the loop over tokens; other tests use the faster `reference`."""
    inputs = draw(problem)
    assert_right(problem, build(kernel, problem), inputs, oracle(problem, inputs))


@pytest.mark.interpreted(mode="train")
@modes
@pytest.mark.parametrize("tokens", [slice(None, None, 3), slice(5, 15), slice(None)], ids=["some", "a range", "all"])
@supporting(BASE)
def test_missing_routes_add_nothing(kernel: Kernel, tokens: slice, mode: str) -> None:
    """A missing route adds no bias either, and its gate weight is not read."""
    problem = BASE.replace(mode=mode, bias=kernel.supports(BIASED, DEVICE) is None)
    inputs = draw(problem)
    ids_TK = inputs.routing.ids_TK.clone()
    ids_TK[tokens] = NO_ROUTE
    ids_TK[tokens.start, 0] = NO_ROUTE
    inputs.routing.gates_TK[ids_TK == NO_ROUTE] = torch.inf
    layer = kernel.build_for_any_routes(problem, kernel.space(problem, DEVICE)[0], DEVICE)
    assert_right(problem, layer, routed(inputs, ids_TK))


@pytest.mark.interpreted(gate=torch.inf)
@pytest.mark.parametrize(
    ("policy", "gate"), [("first_come", torch.inf), ("gate_weight", 9.0), ("gate_weight", torch.inf)]
)
@supporting(BASE.replace(capacity_factor=0.5))
def test_missing_routes_take_no_place_of_a_capacity(kernel: Kernel, policy: str, gate: float) -> None:
    """Their gate weights do not decide either who keeps a place."""
    problem = BASE.replace(capacity_factor=0.5, drop=policy)
    inputs = draw(problem)
    ids_TK = inputs.routing.ids_TK.clone()
    ids_TK[::2, 1] = NO_ROUTE
    expected = reference(problem, routed(inputs, ids_TK))
    inputs.routing.gates_TK[ids_TK == NO_ROUTE] = gate
    assert_right(problem, build(kernel, problem), routed(inputs, ids_TK), expected)


def capacities(kernel: Kernel) -> list[Problem]:
    """Return the problem without drops, and with a capacity where the kernel has one."""
    problems = [BASE, BASE.replace(capacity_factor=1.25, drop="gate_weight")]
    return [problem for problem in problems if kernel.supports(problem, DEVICE) is None]


@supporting(BASE, also=BASE.replace(capacity_factor=1.25), long=True)
def test_what_is_not_finite_stays_in_its_row(kernel: Kernel) -> None:
    """One token holds NaN, another has a gate weight of NaN: results of other tokens, and their gradients, stay."""
    for problem in capacities(kernel):
        inputs = draw(problem)
        inputs.routing.gates_TK[5] = 0  # served last, as one of NaN is
        layer = build(kernel, problem)
        clean = call(problem, layer, inputs.clone().requires_grad_())
        inputs.x_TD[3], inputs.routing.gates_TK[5] = torch.nan, torch.nan
        found = call(problem, layer, inputs.requires_grad_())
        others = torch.tensor([t for t in range(problem.T) if t not in (3, 5)], device=DEVICE)
        assert torch.equal(found.y_TD[others], clean.y_TD[others])
        assert torch.equal(found.y_TD[3].isnan(), clean.y_TD[3] != 0), "NaN, unless its routes are dropped"
        for name in ("x", "gates"):
            assert torch.equal(found.gradients[name][others], clean.gradients[name][others]), name


@supporting(BASE, also=BASE.replace(capacity_factor=1.25), long=True)
def test_the_weights_of_an_expert_that_nobody_chose_are_not_read(kernel: Kernel) -> None:
    """Values of unused experts may be anything, and their gradients are exactly zero."""
    for plain in capacities(kernel):
        problem = plain.replace(bias=kernel.supports(plain.replace(bias=True), DEVICE) is None)
        drawn = draw(problem)
        inputs = routed(drawn, torch.where(drawn.routing.ids_TK == 1, 0, drawn.routing.ids_TK))
        expected = reference(problem, inputs)
        for tensor in inputs.weights.named().values():
            tensor[1] = torch.nan
        result = call(problem, build(kernel, problem), inputs.requires_grad_())
        assert_close(errors(result, expected), problem.dtype)
        assert not any(result.gradients[name][1].any() for name in inputs.weights.named())


@supporting(HALF)
def test_gradients_of_gate_weights_are_summed_in_float32(kernel: Kernel) -> None:
    """In float16 they would be infinite: outputs near 10 times output gradients of 200, summed over D = 64."""
    drawn = draw(HALF)
    drawn.weights.w_down_EDF.mul_(32)
    y_TD = reference(HALF.replace(mode="forward"), drawn).y_TD
    inputs = dataclasses.replace(drawn, dy_TD=(200 * y_TD.sign()).half()).requires_grad_()
    expected = reference(HALF, inputs)
    assert float(expected.gradients["gates"].max()) > torch.finfo(torch.float16).max
    found = errors(call(HALF, build(kernel, HALF), inputs), expected)
    assert_close({name: found[name] for name in ("y", "dgates")}, HALF.dtype)  # others pass what float16 holds


@pytest.mark.interpreted(mode="train")
@modes
@supporting(BASE)
def test_an_expert_twice_in_a_row_adds_up(kernel: Kernel, mode: str) -> None:
    problem = BASE.replace(mode=mode)
    inputs = draw(problem)
    ids_TK = inputs.routing.ids_TK.clone()
    ids_TK[::2, 1] = ids_TK[::2, 0]
    assert_right(problem, build(kernel, problem), routed(inputs, ids_TK))


@supporting(BASE.replace(K=1))
def test_all_tokens_on_one_expert_are_a_dense_mlp(kernel: Kernel) -> None:
    """Compare with torch.nn.functional instead of the project's own reference."""
    problem = BASE.replace(K=1, router="softmax_topk")
    drawn = draw(problem)
    inputs = routed(drawn, torch.full((problem.T, 1), 4)).requires_grad_()
    found = call(problem, build(kernel, problem), inputs)
    leaves = {name: t.detach().double().requires_grad_() for name, t in inputs.differentiable().items()}
    gate, up = functional.linear(leaves["x"], leaves["w_up"][4]).chunk(2, dim=-1)
    y_TD = functional.linear(functional.silu(gate) * up, leaves["w_down"][4]) * leaves["gates"]
    gradients = torch.autograd.grad(y_TD, list(leaves.values()), inputs.everything()["dy"].double())
    expected = Result(y_TD=y_TD.detach(), gradients=dict(zip(leaves, gradients, strict=True)))
    assert_close(errors(found, expected), problem.dtype)
    assert not found.gradients["w_up"][:4].any()


@pytest.mark.parametrize("policy", ["first_come", "first_choices", "gate_weight"])
@supporting(BASE.replace(K=1, capacity_factor=0.01))
def test_everything_dropped_but_one_row(kernel: Kernel, policy: str) -> None:
    """One expert takes one row: the first token's, or that with the largest gate weight."""
    problem = BASE.replace(K=1, capacity_factor=0.01, drop=policy, router="softmax_topk")
    drawn = draw(problem)
    inputs = routed(drawn, torch.full((problem.T, 1), 2))
    assert_right(problem, build(kernel, problem), inputs)
    y_TD = call(problem.replace(mode="forward"), build(kernel, problem), inputs).y_TD
    winner = 0 if policy != "gate_weight" else int(drawn.routing.gates_TK.argmax())
    assert y_TD.any(dim=1).nonzero().flatten().tolist() == [winner]


def spread(tensor: Tensor) -> Tensor:
    return tensor.repeat_interleave(2, dim=-1)[..., ::2]


def transposed(tensor: Tensor) -> Tensor:
    return tensor.transpose(-1, -2).contiguous().transpose(-1, -2)


def cut_out(tensor: Tensor) -> Tensor:
    """Return a window of a larger tensor whose other elements are all NaN."""
    return functional.pad(tensor, (1, 2, 3, 1), value=torch.nan)[..., 3:-1, 1:-2]


def poisoned_pad(tensor: Tensor) -> Tensor:
    return cut_out(tensor) if tensor.is_floating_point() else transposed(tensor)


@pytest.mark.interpreted(mode="train", dtype="float32")
@modes
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("layout", [spread, transposed, poisoned_pad], ids=lambda layout: layout.__name__)
@supporting(BASE, without=("peer",))  # released models have contiguous weights
def test_inputs_need_not_be_contiguous(
    kernel: Kernel, layout: Callable[[Tensor], Tensor], dtype: str, mode: str
) -> None:
    problem = BASE.replace(dtype=dtype, mode=mode, bias=kernel.supports(BIASED, DEVICE) is None)
    drawn = draw(problem)
    inputs = Inputs(
        x_TD=layout(drawn.x_TD),
        routing=Routing(
            ids_TK=layout(drawn.routing.ids_TK), gates_TK=layout(drawn.routing.gates_TK), experts=problem.E
        ),
        weights=drawn.weights.map(layout),
        dy_TD=None if drawn.dy_TD is None else layout(drawn.dy_TD),
    )
    assert not any(t.is_contiguous() for name, t in inputs.everything().items() if name != "ids")
    assert_right(problem, build(kernel, problem), inputs, reference(problem, drawn))


@supporting(BASE)
def test_the_gradient_of_a_sum(kernel: Kernel) -> None:
    """The output gradient of a sum is one number with strides of zero, which must not be written to."""
    drawn = draw(BASE)
    inputs = dataclasses.replace(drawn, dy_TD=torch.ones((), device=DEVICE).expand(BASE.T, BASE.D))
    assert_right(BASE, build(kernel, BASE), inputs)


PARTS = 8  # of an interpreted kernel's configurations; the default run has the first


def parts_of_spaces() -> Iterator[Any]:
    """Yield (kernel, mode, part, parts); in the interpreter only a training step, which holds the forward."""
    for kernel in map(KERNELS.load, NAMES):
        if kernel.supports(SPREAD, DEVICE) is not None:
            continue
        if kernel.name not in INTERPRETED:
            yield from (pytest.param(kernel, mode, 0, 1, id=f"{kernel.name}-{mode}") for mode in ("forward", "train"))
            continue
        for part in range(PARTS):
            marks = [pytest.mark.exhaustive] if part else []
            yield pytest.param(kernel, "train", part, PARTS, id=f"{kernel.name}-train-{part}", marks=marks)


@pytest.mark.parametrize(("kernel", "mode", "part", "parts"), list(parts_of_spaces()))
def test_every_configuration_is_right(kernel: Kernel, mode: str, part: int, parts: int) -> None:
    """One expert has more rows than a tile holds, and not a multiple of a tile's rows."""
    problem = SPREAD.replace(mode=mode, bias=kernel.supports(SPREAD.replace(bias=True), DEVICE) is None)
    if kernel.name in INTERPRETED:
        problem = problem.replace(T=160, K=1)  # the highest tiles have 128 rows
    inputs = draw(problem)
    expected = reference(problem, inputs)
    tried = [config for config in kernel.space(problem, DEVICE) if kernel.valid(problem, config, DEVICE)]
    assert tried[0] == kernel.space(problem, DEVICE)[0], "the default comes first and is valid"
    chosen = covering(tried) if kernel.name in THINNED else tried
    for config in chosen[part::parts]:
        assert_right(problem, build(kernel, problem, config), inputs, expected)


@pytest.mark.interpreted(mode="train", dtype="bfloat16")
@modes
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@either_bias
def test_two_calls_give_the_same_bits(kernel: Kernel, problem: Problem, dtype: str, mode: str) -> None:
    problem = problem.replace(dtype=dtype, mode=mode)
    layer = build(kernel, problem)
    inputs = draw(problem).requires_grad_()
    one, other = call(problem, layer, inputs), call(problem, layer, inputs)
    assert torch.equal(one.y_TD, other.y_TD)
    for name, gradient in one.gradients.items():
        assert torch.equal(gradient, other.gradients[name]), name


@supporting(BASE)
def test_a_layer_keeps_nothing_of_an_earlier_call(kernel: Kernel) -> None:
    """Run other tokens, routes and weights through the same layer, then the first ones again."""
    problem = quick(kernel, BASE)
    layer = build(kernel, problem)
    for seed in (1, 2, 1):
        inputs = draw_inputs(problem, draw_weights(problem, seed=seed, device=DEVICE), seed=seed, device=DEVICE)
        assert_right(problem, layer, inputs)


@either_bias
def test_inputs_and_the_output_gradient_stay_untouched(kernel: Kernel, problem: Problem) -> None:
    inputs = draw(problem)
    before = inputs.clone()
    call(problem, build(kernel, problem), inputs.requires_grad_())
    for name, tensor in inputs.everything().items():
        assert torch.equal(tensor, before.everything()[name]), name


@either_bias
def test_a_second_backward_over_a_retained_graph_gives_the_same(kernel: Kernel, problem: Problem) -> None:
    """The first backward overwrites nothing that a second one needs."""
    problem = quick(kernel, problem)
    inputs = draw(problem).requires_grad_()
    leaves = list(inputs.differentiable().values())
    y_TD = build(kernel, problem)(inputs.x_TD, inputs.routing, inputs.weights)
    first = torch.autograd.grad(y_TD, leaves, inputs.dy_TD, retain_graph=True)
    second = torch.autograd.grad(y_TD, leaves, inputs.dy_TD)
    for name, one, other in zip(inputs.differentiable(), first, second, strict=True):
        assert torch.equal(one, other), name


@either_bias
def test_one_gradient_may_be_asked_for_alone(kernel: Kernel, problem: Problem) -> None:
    """This happens with frozen weights, or with a router that is not trained."""
    problem = quick(kernel, problem)
    drawn = draw(problem)
    expected = reference(problem, drawn)
    for leaf in drawn.differentiable():
        inputs = drawn.clone()
        tensor = inputs.differentiable()[leaf].requires_grad_()
        y_TD = build(kernel, problem)(inputs.x_TD, inputs.routing, inputs.weights)
        (gradient,) = torch.autograd.grad(y_TD, [tensor], inputs.dy_TD)
        alone = Result(y_TD=expected.y_TD, gradients={leaf: expected.gradients[leaf]})
        assert_close(errors(Result(y_TD=y_TD.detach(), gradients={leaf: gradient}), alone), problem.dtype)


@cache
def kept_routes(problem: Problem) -> Routing:
    return drop(problem, draw(problem).routing)


def default_cost(kernel: Kernel, problem: Problem, kept: Routing) -> Cost:
    return kernel.cost(problem, kernel.space(problem, DEVICE)[0], kept)


@pytest.mark.parametrize("name", NAMES)
def test_executed_work_covers_the_useful_work(name: str) -> None:
    for problem in SUPPORTED[name]:
        kept = kept_routes(problem)
        rows = int(kept.counts_E().sum())
        cost = default_cost(KERNELS.load(name), problem, kept)
        assert cost.executed_rows >= rows, problem.key
        assert problem.flops(cost.executed_rows) + cost.extra_flops >= problem.flops(rows), problem.key
        assert cost.workspace_bytes >= 0, problem.key
        assert not any(counter.messages for counter in cost.traffic), f"one rank sends nothing: {problem.key}"


MIDDLE = Problem(T=512, D=128, F=256, E=8, K=2, mode="train")
SIZES = [
    MIDDLE.replace(mode=mode, **changes)
    for changes in (
        {},
        {"gated": False},
        {"dtype": "bfloat16"},
        {"load": "hot"},
        {"T": 32},
        {"E": 1, "K": 1},
        {"bias": True},
    )
    for mode in ("forward", "train")
] + [MIDDLE.replace(mode="forward", dtype="float8_e4m3fn")]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        pytest.param(name, problem, marks=[pytest.mark.exhaustive] if name == COPYING and problem.T > 32 else [])
        for name in KERNELS.names()
        for problem in SIZES
        # The interpreter copies its inputs, which would be measured too.
        if KERNELS.load(name).supports(problem, DEVICE) is None and name not in INTERPRETED
    ],
    ids=key,
)
def test_predicted_workspace_is_near_the_measured_peak(name: str, problem: Problem) -> None:
    """The memory for which a trial is refused is at least half and at most four times what it would take."""
    kernel = KERNELS.load(name)
    problem = kernel.solves(problem)
    inputs = kernel.question.given(problem, draw(problem), 1)
    if problem.mode == "train":
        inputs.requires_grad_()
    layer = build(kernel, problem)
    call(problem, layer, inputs)
    _, measured = peak(lambda: call(problem, layer, inputs), DEVICE)
    workspace = measured - problem.output_bytes
    assert (
        0.5 * workspace <= default_cost(kernel, problem, drop(problem, inputs.routing)).workspace_bytes <= 4 * workspace
    )


@pytest.mark.parametrize("mode", ["forward", "train"])
@pytest.mark.parametrize("changes", [{}, {"gated": False}, {"T": 0}, {"dtype": "bfloat16"}, {"E": 1, "K": 1}], ids=str)
def test_a_matmul_is_one_product_of_the_flops_of_the_layer(changes: Changes, mode: str) -> None:
    """A matmul agrees with its truth, which agrees with autograd in float64; one product forward, two backward."""
    asked = BASE.replace(**changes, mode=mode)
    kernel = KERNELS.load("matmul")
    problem = kernel.solves(asked)
    check = ReferenceCheck.draw(
        Subject(problem, kernel.question), draw_weights(problem, seed=0, device=DEVICE), seed=1, device=DEVICE
    )
    layer = build(kernel, problem)
    with FlopCounterMode(display=False) as counted:
        result = call(problem, layer, check.inputs)
    assert counted.get_total_flops() == asked.flops(asked.N)
    assert verdict(check.grade(lambda: result), problem.rounding) is None
    if mode == "train" and problem.T:
        x, w = (t.detach().double().requires_grad_() for t in (check.inputs.x_TD, check.inputs.weights.w_up_EUD))
        dx, dw = torch.autograd.grad(x @ w[0].T, (x, w), check.inputs.everything()["dy"].double())
        torch.testing.assert_close(check.expected.gradients["x"], dx)
        torch.testing.assert_close(check.expected.gradients["w_up"], dw)
    assert not kernel.answers(asked)


@pytest.mark.parametrize("mode", ["forward", "train"])
def test_the_truth_of_a_matmul_takes_the_bytes_that_are_said(mode: str) -> None:
    """Predicted and measured bytes agree within a tenth, because a trial is refused by them."""
    kernel = KERNELS.load("matmul")
    problem = kernel.solves(MIDDLE.replace(mode=mode))
    drawn = draw(problem)
    _, measured = peak(lambda: kernel.question.truth(problem, kernel.question.given(problem, drawn, 1)), DEVICE)
    assert measured / 1.1 < kernel.question.truth_bytes(problem) < 1.1 * measured


@pytest.mark.parametrize("problem", [BASE, BASE.replace(load="empty:0.5"), BASE.replace(T=0)], ids=key)
def test_grouped_without_grouped_mm_gives_the_same(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a grouped product in torch, each expert with rows has its own product."""
    inputs = draw(problem)
    if problem.mode == "train":
        inputs.requires_grad_()
    expected = call(problem, build(grouped.kernel, problem), inputs)
    monkeypatch.delattr(functional, "grouped_mm")
    assert_right(problem, build(grouped.kernel, problem), inputs, expected)
