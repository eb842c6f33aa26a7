"""`moebench doctor`: what this machine is, what it can measure, and what is missing."""

from __future__ import annotations

import json
from importlib.util import find_spec
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

    from ..kernels.catalog import KERNELS
    from ..kernels.device import device_name, driver
    from ..kernels.models import model
    from ..results.environment import commit, fingerprint
    from ..results.machine import Machine
    from ..results.memory import available_bytes

    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    problem = model("Mixtral-8x7B").problem(T=512)
    machine = Machine(device)
    rates = {str(dtype).removeprefix("torch."): machine.roofline(dtype) for dtype in (torch.float32, torch.bfloat16)}
    environment = fingerprint(
        "cuda" if device.type == "cuda" else "cpu", device=device_name(device), driver=driver(device)
    )
    found = {
        "environment": environment.model_dump() | {"commit": commit()},
        "available_gib": round(available_bytes(device) / 2**30, 1),
        "measured": {
            "memory": {
                "copy_gb_per_s": round(machine.memory.copy / 1e9, 1),
                "read_gb_per_s": round(machine.memory.read / 1e9, 1),
            }
        }
        | {dtype: {"matmul_tflop_per_s": round(rate.flops_per_s / 1e12, 3)} for dtype, rate in rates.items()},
        "kernels": {name: KERNELS.load(name).supports(problem, device) or "usable" for name in KERNELS.names()},
        "extras": {
            name: "installed" if find_spec(name) else f"missing; pip install 'moebench[{extra}]'"
            for name, extra in OPTIONAL.items()
        },
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
