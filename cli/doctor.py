"""`moebench doctor`: what this machine is, what it can measure, and what is missing."""

from __future__ import annotations

import json
from functools import partial
from importlib import import_module
from typing import Annotated

import typer

OPTIONAL = {
    "cupy": "gpu",
    "pynvml": "gpu",
    "transformers": "peers",
    "ray": "ray",
    "optuna": "search",
    "pyarrow": "parquet",
}


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False) -> None:
    """Show the device, its measured rates, and which implementations and extras are usable here."""
    import torch

    from ..autotune.here import environment_of
    from ..kernels.catalog import KERNELS
    from ..kernels.models import model
    from ..results.environment import commit
    from ..results.machine import Machine
    from ..results.memory import available_bytes
    from ..results.nvml import connect

    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    problem = model("Mixtral-8x7B").problem(T=512)
    machine = Machine(device)
    rates = {str(dtype).removeprefix("torch."): machine.roofline(dtype) for dtype in (torch.float32, torch.bfloat16)}
    found = {
        "environment": environment_of(device).model_dump() | {"commit": commit()},
        **({"state": connect(device.index).state(energy_j=None).model_dump()} if device.type == "cuda" else {}),
        "available_gib": round(available_bytes(device) / 2**30, 1),
        "measured": {
            dtype: {
                "matmul_tflop_per_s": round(rate.flops_per_s / 1e12, 3),
                "copy_gb_per_s": round(rate.bytes_per_s / 1e9, 1),
            }
            for dtype, rate in rates.items()
        },
        "kernels": {name: KERNELS.load(name).supports(problem, device) or "usable" for name in KERNELS.names()},
        "extras": {name: _state(name, extra) for name, extra in OPTIONAL.items()},
    }
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for title, facts in found.items():
        typer.echo(f"\n{title.replace('_', ' ')}")
        rows = facts.items() if isinstance(facts, dict) else [("", facts)]
        for name, fact in rows:
            shown = ", ".join(f"{key} {value}" for key, value in fact.items()) if isinstance(fact, dict) else fact
            typer.echo(f"  {name:<24} {shown}")


def _state(package: str, extra: str) -> str:
    """Whether a package of an extra can be imported, not only found."""
    from ..kernels.optional import Unusable, use

    try:
        use(package, partial(import_module, package), remedy=f"pip install 'moebench[{extra}]'")
    except Unusable as error:
        return str(error)
    return "installed"
