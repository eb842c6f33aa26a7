"""Layers to compile: default configurations for a few representative problems, or whole search spaces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import torch

from ...common.names import unknown
from ..catalog import KERNELS
from ..config import Config
from ..hardware.device_limits import assuming
from ..hardware.gpus import HARDWARE, Hardware
from ..implementations._triton import MISSING, TritonKernel
from ..kernel import Kernel
from ..problem import DType, Problem
from ..problem.models import model
from .machine_code import CodeCounters, CodeReader

META = torch.device("meta")
DECODED = 16  # tokens of a batch that is decoded, at most
TIGHT = 1.0  # the capacity factor for implementations that want one


@dataclass(frozen=True, kw_only=True)
class CompileCase:
    """One layer to compile: a kernel and a target by name, one layer of a ``model``, one configuration.

    ``hardware`` holds the limits of a device at hand; without it the layer is built for those of the table.
    """

    kernel: str
    model: str
    problem: Problem
    config: Config
    target: str
    hardware: Hardware | None = None

    @property
    def title(self) -> str:
        """The problem, as a reader sees it."""
        problem = self.problem
        capacity = "" if problem.capacity_factor is None else f" cf={problem.capacity_factor:g}"
        return f"{self.model} T={problem.T} {problem.mode} {problem.dtype}{capacity}"


@dataclass(frozen=True, kw_only=True)
class CompileOutcome:
    """The counters of a case by launch, those of equal launches once; or the compiler's ``error`` message."""

    case: CompileCase
    launches: dict[str, CodeCounters]
    error: str = ""


def references(model_name: str | None = None, dtype: str | None = None) -> list[tuple[str, Problem]]:
    """Return models and problems: few wide experts, many narrow ones, decoding, each element type.

    With a model or a dtype only those: a training step of 8192 tokens, and decoding 16. In float8 both are forward.

    Raises:
        UnknownName: for a model or a dtype that is not known.
    """
    if dtype is not None and dtype not in get_args(DType):
        raise unknown("dtype", dtype, list(get_args(DType)))
    mixtral, qwen = "Mixtral-8x7B", "Qwen3-30B-A3B"
    wanted = [(mixtral, 8192, "bfloat16"), (qwen, 8192, "bfloat16"), (mixtral, 16, "bfloat16")]
    if model_name is not None:
        name = model(model_name).name
        wanted = [(name, 8192, "bfloat16"), (name, 16, "bfloat16")]
    if dtype is not None:
        wanted = [(name, T, dtype) for name, T, _ in wanted]
    elif model_name is None:
        wanted += [(mixtral, 8192, "float16"), (mixtral, 8192, "float32"), (mixtral, 8192, "float8_e4m3fn")]
    return [(name, usual(model(name).problem(T=T, dtype=dtype))) for name, T, dtype in wanted]


def usual(problem: Problem) -> Problem:
    """Return the problem as a training step, unless it decodes or its weights have no gradients."""
    return problem.replace(mode="train") if problem.T > DECODED and not problem.quantised else problem


def compiled_kernels() -> list[str]:
    """Return the names of the implementations that start Triton kernels of this project."""
    return [name for name in KERNELS.names() if isinstance(KERNELS.load(name), TritonKernel)]


def cases(
    target: str, kernels: Sequence[str], problems: Sequence[tuple[str, Problem]], *, whole: bool
) -> list[CompileCase]:
    """Return a case for each kernel and each problem it takes, in its default or in all valid configurations.

    Raises:
        UnknownName: for an unknown target, or a kernel that is not one of ours in Triton.
    """
    if target not in HARDWARE:
        raise unknown("target", target, list(HARDWARE))
    names = compiled_kernels()
    for name in kernels:
        if name not in names:
            raise unknown("Triton kernel", name, names)
    found = []
    with assuming(HARDWARE[target]):
        for name in kernels or names:
            kernel = KERNELS.load(name)
            for of, problem in _taken(kernel, problems):
                space = kernel.space(problem, META)
                valid = [config for config in space if kernel.valid(problem, config, META)] if whole else space[:1]
                found += [
                    CompileCase(kernel=name, model=of, problem=problem, config=config, target=target)
                    for config in valid
                ]
    return found


def _taken(kernel: Kernel, problems: Sequence[tuple[str, Problem]]) -> Iterator[tuple[str, Problem]]:
    """Yield the problems that a kernel takes; with a capacity factor where it takes none without."""
    for of, problem in problems:
        for form in (problem, problem.replace(capacity_factor=TIGHT)):
            if kernel.supports(form, META) is None:
                yield of, form
                break


def unable() -> str | None:
    """Return None, or why nothing can be compiled in this process, with the remedy."""
    if MISSING:
        return MISSING
    from ..triton.launch import INTERPRETED  # noqa: PLC0415  # imports Triton

    if INTERPRETED:
        return "TRITON_INTERPRET is set, so that Triton interprets kernels instead of compiling them: unset it"
    return None


def compile_case(case: CompileCase, read: CodeReader, *, first: int = 0, stride: int = 1) -> CompileOutcome:
    """Compile the ``first`` launch of a case and every ``stride``-th after it, in this process.

    The second launch of a name is called ``name 2``, and so on.
    """
    from .compile import Target, compile_launch, launches  # noqa: PLC0415  # imports Triton

    target = Target.named(case.target)
    if case.hardware is not None:
        target = replace(target, hardware=case.hardware)
    counters: dict[str, CodeCounters] = {}
    turns: Counter[str] = Counter()
    name = "layer"
    try:
        for number, launch in enumerate(launches(KERNELS.load(case.kernel), case.problem, case.config, target)):
            turns[launch.name] += 1
            name = launch.name if turns[launch.name] == 1 else f"{launch.name} {turns[launch.name]}"
            if number % stride == first:
                counters[name] = compile_launch(launch, target, read)
    except Exception as error:  # noqa: BLE001  # a compiler may raise anything; the outcome carries its message
        return CompileOutcome(case=case, launches=counters, error=f"{name}: {_in_a_line(error)}")
    return CompileOutcome(case=case, launches=counters)


def _in_a_line(error: BaseException) -> str:
    """Return the last line of an error's first cause: the compiler wraps its message in the source code around it."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__
