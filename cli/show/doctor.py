"""`moebench doctor`: what this machine is, what it can measure, and what is missing."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Annotated

import typer

from ..screen import say, say_json, say_pairs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from ...execution.trial.checks.memory_check import Short
    from ...results.record import Roofline
    from ...results.timing.roofline import MachineRates
    from .quietness import MachineFinding

OPTIONAL = {
    "cupy": "gpu",
    "pynvml": "gpu",
    "transformers": "peers",
    "ray": "ray",
    "pyarrow": "parquet",
}


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False) -> None:
    """Show the device, its rates, how quiet it is, whether energy can be read, and what is usable here."""
    from ...execution.workers.affinity import prepare_threads

    prepare_threads(0, 1)  # as in the workers, whose bounds come from these rates
    import torch

    from ...execution.trial.checks.memory_check import afford
    from ...execution.trial.local_environment import environment_of
    from ...execution.trial.rates_for_layers import keep_rates
    from ...kernels.catalog import KERNELS
    from ...kernels.implementations._peer import Adapter
    from ...kernels.problem.models import model
    from ...results.record.environment import commit
    from ...results.timing.memory import available_bytes
    from ...results.timing.roofline import MachineRates
    from .energy_readings import energy_of
    from .quietness import findings

    kernels = [KERNELS.load(name) for name in KERNELS.names()]
    quiet = _by_name(findings())
    device, gpu = _device()
    problem = model("Mixtral-8x7B").problem(T=512)
    machine = MachineRates(device)
    rates = {
        str(dtype).removeprefix("torch."): afford(
            partial(machine.roofline, dtype), what="measuring the rates", needed=machine.probe_bytes, device=device
        )
        for dtype in (torch.float32, torch.bfloat16)
    }
    found = {
        "gpu": gpu,
        "environment": environment_of(device).model_dump() | {"commit": commit()},
        "available_gib": round(available_bytes(device) / 2**30, 1),
        "measured": {"memory": _memory(machine)} | {dtype: _matmul(rate) for dtype, rate in rates.items()},
        "kept_for_layers": str(keep_rates(machine, again=True) or "nothing"),
        "how_quiet": quiet,
        "energy": _by_name([energy_of(device)]),
        "kernels": {kernel.name: kernel.supports(problem, device) or "usable" for kernel in kernels},
        "read_against": {one.name: one.read_against.beside_installed() for one in kernels if isinstance(one, Adapter)},
        "extras": {name: _state(name, extra) for name, extra in OPTIONAL.items()},
    }
    if as_json:
        say_json(found)
        return
    show(found)


def _by_name(findings: Sequence[MachineFinding]) -> dict[str, dict[str, str]]:
    return {one.name: {"found": one.found, "remedy": one.remedy} for one in findings}


def show(found: Mapping[str, object]) -> None:
    """Print what was found, a title and a line for each fact."""
    for title, facts in found.items():
        say(f"\n{title.replace('_', ' ')}")
        if isinstance(facts, dict):
            say_pairs(((name, str(_in_a_line(fact))) for name, fact in facts.items()), indent=2)
        else:
            say(f"  {facts}")


def _in_a_line(fact: object) -> object:
    if not isinstance(fact, dict):
        return fact
    if "remedy" in fact:
        return f"{fact['found']} → {fact['remedy']}" if fact["remedy"] else fact["found"]
    return ", ".join(f"{key} {value}" for key, value in fact.items())


def _device() -> tuple[torch.device, dict[str, object] | str]:
    """Return the GPU with its readings, or where it cannot be used the CPU and the reason."""
    import torch

    from ...results.timing.gpu_check import UnfitGpu, check_gpu, check_idle
    from ...results.timing.nvml import connect

    if not torch.cuda.is_available():
        return torch.device("cpu"), "torch sees none"
    try:
        check_idle(0)
        check_gpu(0, wanted=1)
    except UnfitGpu as error:
        return torch.device("cpu"), str(error)
    return torch.device("cuda", 0), connect(0).state(energy_j=None).model_dump()


def _state(package: str, extra: str) -> str:
    """Return whether a package of an extra can be imported: it may be installed and broken."""
    from ...common.packages import Unusable, use

    try:
        use(package, partial(import_module, package), remedy=f"pip install 'moebench[{extra}]'")
    except Unusable as error:
        return str(error)
    return "installed"


def _memory(machine: MachineRates) -> dict[str, float]:
    rates = machine.memory
    return {"copy_gb_per_s": round(rates.copy / 1e9, 1), "read_gb_per_s": round(rates.read / 1e9, 1)}


def _matmul(rate: Roofline | Short) -> dict[str, float] | str:
    from ...execution.trial.checks.memory_check import Short

    return rate.reason if isinstance(rate, Short) else {"matmul_tflop_per_s": round(rate.flops_per_s / 1e12, 3)}
