"""Options of `moebench run` and `moebench tune` that say where to measure, and the executors that they select."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .errors import refuse

if TYPE_CHECKING:
    from ..execution.workers.executor import OpenExecutor
    from ..execution.workers.torchrun import Torchrun
    from ..execution.workers.worker import DeviceType, WorkerProvider

Where = Literal["local", "ray"]
WhereOption = Annotated[
    Where,
    typer.Option("--executor", help="Workers: one for each GPU of this machine, or the actors of a Ray cluster."),
]
AddressOption = Annotated[
    str | None, typer.Option(help="Address of the Ray cluster.", show_default="a new one on this machine")
]
SlotsOption = Annotated[
    int | None,
    typer.Option(min=1, help="Number of tasks measured at the same time.", show_default="one for each GPU, else one"),
]


def executors(device_type: DeviceType, where: Where, address: str | None, slots: int | None) -> OpenExecutor:
    """Return a function that opens an executor on the machines that the options name."""
    if where == "ray":
        from ..execution.workers.ray_executor import ray_executor

        return partial(ray_executor, device_type, address=address, slots=slots)
    if address is not None:
        refuse(f"--address {address} names a Ray cluster: add --executor ray")
    from ..execution.workers.local_executor import local_executor

    return partial(local_executor, device_type, slots=slots)


def executors_of_run(
    device_type: DeviceType,
    where: Where,
    address: str | None,
    slots: int | None,
    *,
    launched: Torchrun | None,
    interleaved: bool,
) -> OpenExecutor:
    """Return a function that opens an executor: for torchrun's processes, interleaved runs, or what the options say."""
    if launched is not None:
        _refuse_options(where, address, slots, "torchrun has started one worker for each rank")
        return _one_slot(device_type, launched)
    if interleaved:
        from ..execution.workers.affinity import SharedDevices
        from ..execution.workers.local_worker import LocalWorkers

        _refuse_options(where, address, slots, "--interleave-with is for two runs of one slot each")
        return _one_slot(device_type, LocalWorkers(SharedDevices()))
    return executors(device_type, where, address, slots)


def _one_slot(device_type: DeviceType, provider: WorkerProvider) -> OpenExecutor:
    from ..execution.workers.local_executor import one_slot

    return partial(one_slot, device_type, provider)


def _refuse_options(where: Where, address: str | None, slots: int | None, reason: str) -> None:
    if where != "local" or address is not None or slots not in (None, 1):
        refuse(f"{reason}: leave out --executor, --address and --slots")
