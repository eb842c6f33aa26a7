"""Forms of a session: a GPU and the shapes of released models, or in a rehearsal a CPU and small ones."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from ...common.names import unknown
from ...execution.workers.worker import DeviceType
from ...kernels.problem import DType, Problem
from ...kernels.problem.models import model
from ...results.record import Size
from ..plan import tasks

MEASURED = ("granularity", "models")  # suites; their training points are measured last
COMPLETING = ("experts", "capacity")
DTYPES: tuple[DType, ...] = ("bfloat16", "float16", "float32")


@dataclass(frozen=True, kw_only=True)
class SessionForm:
    """The same steps for different machines.

    ``device``: the device to measure on. ``size``, ``kernels`` and ``samples``: options of the suites; no kernels means
    all of them, None samples as many as the noise requires. ``hot``: options that measure the steady state, for
    ``hot_kernels``. ``eager``: the suite whose calls are made in a Python loop, with its options. ``check``: a small
    problem, checked in every element type. ``compiled``: the problems compiled beforehand, None for those that the
    suites measure. ``variants``: the problems at which each choice of a kernel is changed alone, in at most ``most``
    variants. ``traced``: the problem that profilers observe. ``tiny``: the problem run under a memory checker.
    ``rivals``: the problems at which ``rival_kernels`` are measured. ``tuned``: the kernel to tune, at the shapes
    ``tuned_fine`` and ``tuned_model`` in ``trials`` each; ``swept``: the number of configurations drawn at random.
    ``interpreted``: True where Triton kernels run in the interpreter. ``environment``: variables of all steps.
    ``tests``: the folder of tests to run, with ``tests_words`` as options of pytest. ``tools``: True where the real
    profiler and memory checker are used.
    """

    name: str
    device: DeviceType
    size: Size
    kernels: tuple[str, ...]
    hot_kernels: tuple[str, ...]
    samples: int | None
    hot: tuple[str, ...]
    eager: tuple[str, ...]
    check: Problem
    compiled: tuple[Problem, ...] | None
    variants: tuple[Problem, ...]
    most: int
    traced: Problem
    tiny: Problem
    rivals: tuple[Problem, ...]
    rival_kernels: tuple[str, ...]
    tuned: str
    tuned_fine: tuple[str, ...]
    tuned_model: tuple[str, ...]
    trials: int
    swept: int
    interpreted: bool
    environment: Mapping[str, str]
    tests: str
    tests_words: tuple[str, ...]
    tools: bool

    @property
    def checks(self) -> list[Problem]:
        """The small problem in every element type, forward and training, dropless and with a capacity."""
        return [
            self.check.replace(dtype=dtype, mode=mode, capacity_factor=factor)
            for dtype, mode, factor in itertools.product(DTYPES, ("forward", "train"), (None, 1.25))
        ]

    @property
    def precompiled(self) -> list[Problem]:
        """The problems whose default configurations are compiled before anything is measured."""
        if self.compiled is not None:
            return list(self.compiled)
        asked = (
            task.problem
            for suite in (*MEASURED, *COMPLETING, self.eager[0])
            for task in tasks(suite, self.size, self.device)
        )
        return list(dict.fromkeys(asked))


_MIXTRAL = model("Mixtral-8x7B")
_FINE = Problem(T=24576, D=1536, F=256, E=128, K=8, dtype="bfloat16")  # SonicMoE's finest experts (Guo et al. 2025)
_LARGE = Problem(T=32768, D=4096, F=1024, E=128, K=8, dtype="bfloat16")  # the default of its benchmark
_SMALL = Problem(T=40, D=64, F=32, E=8, K=2)
_TINY = Problem(T=6, D=32, F=16, E=2, K=1)

GPU = SessionForm(
    name="gpu",
    device="cuda",
    size="reduced",
    kernels=(),
    hot_kernels=("triton_scatter", "triton_block_sparse", "dense", "transformers_grouped_mm"),
    samples=None,
    hot=("--cache", "hot"),
    eager=("tokens",),
    check=Problem(T=300, D=256, F=192, E=8, K=2),
    compiled=None,
    variants=(
        _MIXTRAL.problem(T=8192, dtype="bfloat16", mode="train"),
        _FINE,
        _MIXTRAL.problem(T=64, dtype="bfloat16"),
    ),
    most=24,
    traced=_MIXTRAL.problem(T=8192, dtype="bfloat16"),
    tiny=Problem(T=70, D=128, F=96, E=4, K=2, dtype="bfloat16"),
    rivals=(_FINE, _LARGE),
    rival_kernels=(
        "triton_scatter", "scattermoe", "sonicmoe", "megablocks", "vllm_fused_moe", "triton_kernels_moe",
        "transformers_grouped_mm",
    ),
    tuned="triton_scatter",
    tuned_fine=("--shape", "D=1536,F=256,E=128,K=8", "--tokens", "24576"),
    tuned_model=("--model", "Mixtral-8x7B", "--tokens", "64,8192"),
    trials=24,
    swept=40,
    interpreted=False,
    environment={},
    tests=".",
    tests_words=("-n", "8", "--dist", "loadgroup"),
    tools=True,
)  # fmt: skip

REHEARSAL = SessionForm(
    name="rehearsal",
    device="cpu",
    size="small",
    kernels=("scatter",),
    hot_kernels=("scatter",),
    samples=2,
    hot=("--cache", "cold", "--model", "Mixtral-8x7B"),
    eager=("models", "--model", "Mixtral-8x7B"),
    check=_TINY,
    compiled=(_MIXTRAL.problem(T=16, dtype="bfloat16"),),
    variants=(_TINY,),
    most=2,
    traced=_TINY,
    tiny=_TINY,
    rivals=(_SMALL,),
    rival_kernels=("scatter", "scattermoe"),
    tuned="scatter",
    tuned_fine=("--shape", "D=64,F=16,E=16,K=4", "--tokens", "64", "--dtype", "float32"),
    tuned_model=("--model", "Mixtral-8x7B", "--width", "64", "--tokens", "16,64", "--dtype", "float32"),
    trials=2,
    swept=4,
    interpreted=True,
    # Idle threads sleep: threads that spin would delay the other processes for seconds.
    environment={"OMP_WAIT_POLICY": "passive"},
    tests="kernels/cuda",
    tests_words=("-n", "2", "--dist", "loadgroup"),
    tools=False,
)


def form(name: str) -> SessionForm:
    """Return the form of that name.

    Raises:
        UnknownName: when there is none.
    """
    forms = {one.name: one for one in (GPU, REHEARSAL)}
    if name not in forms:
        raise unknown("form", name, list(forms))
    return forms[name]
