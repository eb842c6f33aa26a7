"""The steps of a session, the most valuable first: three stages of under nine minutes each on one GPU."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

from .forms import COMPLETING, MEASURED, SessionForm
from .session_step import SessionStep
from .tools import tool

STAGES = ("1", "2", "3")
MOEBENCH = (sys.executable, "-m", "moebench.cli.main")
PAGE = "page"
# Sections that ncu collects in a few replays of a kernel: use of the hardware limits, and causes of stalled warps.
SECTIONS = (
    "SpeedOfLight", "ComputeWorkloadAnalysis", "MemoryWorkloadAnalysis", "WarpStateStats", "SchedulerStats",
    "Occupancy", "LaunchStats",
)  # fmt: skip


def declared(form: SessionForm, *, tests: Path | None) -> list[SessionStep]:
    """List all steps but the page, in order; ``tests`` is the folder of moebench's tests, None without one."""
    steps = (*_first(form, tests), *_second(form), *_third(form))
    return [replace(step, environment={**form.environment, **step.environment}) for step in steps]


def _first(form: SessionForm, tests: Path | None) -> list[SessionStep]:
    """List the steps on correctness and first times."""
    return [
        SessionStep(
            number="1.1",
            name="machine",
            worth="versions, the device, readings of its clocks, and the measured rates that bounds are computed from",
            command=_program("describe_machine", form.name, "machine.json"),
            limit_s=30,
            files=("machine.json",),
        ),
        SessionStep(
            number="1.2",
            name="check",
            worth="whether the Triton kernels are right in every element type, forward and training",
            command=_program("measure_tasks", form.name, "check", "check.jsonl"),
            limit_s=55,
            files=("check.jsonl",),
            environment=_interpreted(form),
        ),
        _tests(form, tests),
        SessionStep(
            number="1.3",
            name="compile",
            worth="compiles the layers that the next steps measure, on all cores at once",
            command=_program("precompile", form.name, "compile.json"),
            limit_s=45,
            files=("compile.json",),
        ),
        SessionStep(
            number="1.4",
            name="cold",
            worth="times of decode, prefill, fine experts and training against the bound: the first numbers to quote",
            command=_run(form, *MEASURED, output="cold.jsonl", kernels=form.kernels),
            limit_s=200,
            files=("cold.jsonl", "cold.html", "cold.md"),
        ),
        SessionStep(
            number="1.5",
            name="clock",
            worth="whether our clocks agree with triton.testing.do_bench, and whether the flush leaves work behind",
            command=(*MOEBENCH, "clock", "--device", form.device, "--output", "clock.json"),
            limit_s=35,
            files=("clock.json",),
        ),
        SessionStep(
            number="1.5",
            name="eager",
            worth="time of decoding in a Python loop, launches included, and the stages of these calls",
            command=_run(
                form,
                *form.eager,
                output="eager.jsonl",
                kernels=form.hot_kernels[:1],
                words=("--cache", "eager", "--stages"),
            ),
            limit_s=20,
            files=("eager.jsonl", "eager.html", "eager.md"),
        ),
    ]


def _second(form: SessionForm) -> list[SessionStep]:
    """List the steps that explain the times."""
    return [
        SessionStep(
            number="2.1",
            name="variants",
            worth="what each choice of the kernel gains: each is changed alone and measured in turn with the default",
            command=_program("variants", form.name, "variants.jsonl"),
            limit_s=230,
            files=("variants.jsonl",),
            environment=_interpreted(form),
        ),
        _under_tool(
            form,
            number="2.2",
            name="ncu",
            worth="use of the tensor pipe, L2 and shared memory by each kernel, and what its warps wait for",
            words=(
                "--clock-control", "none", "--profile-from-start", "off", "--force-overwrite", "--page", "details",
                *(word for section in SECTIONS for word in ("--section", section)), "--export", "ncu.ncu-rep",
            ),
            program=_program("call", form.name, "traced"),
            limit_s=105,
            files=("ncu.ncu-rep",),
        ),
        _under_tool(
            form,
            number="2.3",
            name="compute-sanitizer",
            worth="accesses past the end of a tensor, which Triton's interpreter cannot see",
            words=("--tool", "memcheck", "--error-exitcode", "1"),
            program=_program("call", form.name, "tiny"),
            limit_s=90,
            # Each tensor gets an allocation of its own: the checker sees no bounds inside a block of torch's allocator.
            environment={"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
        ),
        SessionStep(
            number="2.4",
            name="trace",
            worth="gaps between the launches of a forward and of a training step",
            command=_program("profile_calls", form.name, "forward.trace.json.gz", "train.trace.json.gz"),
            limit_s=40,
            files=("forward.trace.json.gz", "train.trace.json.gz"),
            environment=_interpreted(form),
        ),
    ]  # fmt: skip


def _third(form: SessionForm) -> list[SessionStep]:
    """List the steps on tuning, the steady state and the peers."""
    return [
        _tune(form, "3.1", "tune-fine", form.tuned_fine, limit_s=80),
        _tune(form, "3.1", "tune-model", form.tuned_model, limit_s=100),
        SessionStep(
            number="3.2",
            name="hot",
            worth="times in the steady state of a CUDA graph, and joules per call",
            command=_run(
                form, *MEASURED, output="hot.jsonl", kernels=form.hot_kernels, words=form.hot
            ),
            limit_s=105,
            files=("hot.jsonl", "hot.html", "hot.md"),
        ),
        SessionStep(
            number="3.3",
            name="complete",
            worth="times with many experts and with capacity factors: the rest of the page",
            command=_run(form, *COMPLETING, output="complete.jsonl", kernels=form.kernels),
            limit_s=75,
            files=("complete.jsonl", "complete.html", "complete.md"),
        ),
        SessionStep(
            number="3.4",
            name="peers",
            worth="times of the installed peers, at fine experts and at the shape that they quote",
            command=_program("measure_tasks", form.name, "rivals", "peers.jsonl"),
            limit_s=55,
            files=("peers.jsonl",),
        ),
        SessionStep(
            number="3.5",
            name="sweep",
            worth="times of randomly drawn configurations, to compare search strategies on without a GPU",
            command=(
                *MOEBENCH, "tune", form.tuned, *form.tuned_fine, "--device", form.device, "--strategy", "random",
                "--trials", str(form.swept), "--output", "sweep.jsonl",
            ),
            limit_s=45,
            files=("sweep.jsonl",),
        ),
        SessionStep(
            number="3.5",
            name="predicted",
            worth="how well the static model predicts the order and the times of that sweep",
            command=_program("predicted", "sweep.jsonl", "predicted.json"),
            limit_s=15,
            files=("predicted.json",),
        ),
    ]  # fmt: skip


def page(folder: Path) -> SessionStep:
    """Return the last step of every stage, which reports all records so far on one page."""
    records = sorted(file.name for file in folder.glob("*.jsonl"))
    return SessionStep(
        number="all",
        name=PAGE,
        worth="a report of all records so far",
        command=(*MOEBENCH, "report", *records, "--output", "page.html"),
        limit_s=20,
        files=("page.html",),
        obstacle="" if records else "no step has left a record yet",
    )


def _interpreted(form: SessionForm) -> dict[str, str]:
    """Return the variables of a step whose Triton kernels are interpreted, where the form has no GPU."""
    return {"TRITON_INTERPRET": "1"} if form.interpreted else {}


def _program(name: str, *words: str) -> tuple[str, ...]:
    return (sys.executable, "-m", f"{__package__}.programs.{name}", *words)


def _run(
    form: SessionForm, *suites: str, output: str, kernels: Sequence[str], words: Sequence[str] = ()
) -> tuple[str, ...]:
    """Return the command `moebench run` in default configurations, which earlier tuning cannot change."""
    only = [word for kernel in kernels for word in ("--kernel", kernel)]
    samples = [] if form.samples is None else ["--samples", str(form.samples)]
    return (
        *MOEBENCH, "run", *suites, "--device", form.device, "--size", form.size, "--configs", "default",
        "--output", output, *only, *samples, *words,
    )  # fmt: skip


def _tune(form: SessionForm, number: str, name: str, shape: Sequence[str], limit_s: float) -> SessionStep:
    records = f"{name}.jsonl"
    return SessionStep(
        number=number,
        name=name,
        worth="times with the best configuration that a short search finds",
        command=(
            *MOEBENCH, "tune", form.tuned, *shape, "--device", form.device, "--trials", str(form.trials),
            "--output", records,
        ),
        limit_s=limit_s,
        files=(records,),
    )  # fmt: skip


def _tests(form: SessionForm, tests: Path | None) -> SessionStep:
    """Return the step of the tests for a GPU, which needs only pytest and the folder of the tests."""
    obstacle = ""
    if tests is None:
        obstacle = "no folder of tests found: start it in a checkout, or give --tests"
    elif not find_spec("pytest"):
        obstacle = "pytest is not installed; bring its wheel along (docs/gpu.md)"
    where = [str(tests / form.tests)] if tests else []
    side_by_side = form.tests_words if find_spec("xdist") else _alone(form.tests_words)
    return SessionStep(
        number="1.2",
        name="tests",
        worth="whether all tests marked for a GPU pass, those of transformers' layers included",
        command=(
            sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-W", "default", "--continue-on-collection-errors",
            "-p", "no:cacheprovider", "--junitxml", "tests.xml", *side_by_side, *where,
        ),
        limit_s=90,
        files=("tests.xml",),
        obstacle=obstacle,
    )  # fmt: skip


def _alone(words: Sequence[str]) -> tuple[str, ...]:
    """Return options for pytest without those of pytest-xdist."""
    spread = {"-n", "--dist"}
    return tuple(word for word, before in zip(words, ("", *words), strict=False) if not {word, before} & spread)


def _under_tool(
    form: SessionForm,
    *,
    number: str,
    name: str,
    worth: str,
    words: Sequence[str],
    program: Sequence[str],
    limit_s: float,
    files: tuple[str, ...] = (),
    environment: Mapping[str, str] = MappingProxyType({}),
) -> SessionStep:
    """Return the step that runs a program under an NVIDIA tool; the step has the tool's name."""
    found = tool(name, real=form.tools)
    return SessionStep(
        number=number,
        name=name,
        worth=worth,
        command=(*(found or (name,)), *words, *program),
        limit_s=limit_s,
        files=files,
        environment={**environment, **_interpreted(form)},
        obstacle="" if found else f"{name} is not found: add the folder of the CUDA toolkit that holds it to PATH",
    )
