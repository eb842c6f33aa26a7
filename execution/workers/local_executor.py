"""The devices of this machine: a slot for each GPU, or the cores of the CPU in one slot or in equal shares."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from .affinity import WHOLE, Affinity, Cores, OneGpu
from .executor import Executor, ExecutorError
from .pool import Pool
from .supervisor import Supervisor
from .worker import DeviceType
from .worker_group import LocalWorkers


def local_executor(device_type: DeviceType, kernels: Sequence[str], *, slots: int | None = None) -> Executor:
    """An executor on every GPU that CUDA_VISIBLE_DEVICES leaves, or on the first ``slots`` of them.

    On a CPU it has one slot with all cores, or as many as asked for, with as many cores each: they share caches and
    memory, so their times are those of a busy machine. ``kernels`` are what the workers import when they start.

    Raises:
        ExecutorError: when there are fewer devices or cores than slots.
    """
    masks = _gpus(slots) if device_type == "cuda" else _cores(slots or 1)
    return Pool({name: Supervisor(device_type, kernels, LocalWorkers(mask)) for name, mask in masks.items()})


def _gpus(slots: int | None) -> Mapping[str, Affinity]:
    import torch  # noqa: PLC0415  # who only asks for a CPU does without

    count = torch.cuda.device_count()  # makes no context: the memory and the device belong to the workers
    if count < (slots or 1):
        raise ExecutorError(f"torch sees {count} CUDA devices, {slots or 1} wanted: ask for fewer slots or use the CPU")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(index) for index in range(count)] if visible is None else [n.strip() for n in visible.split(",")]
    return {f"GPU {name}": OneGpu(name) for name in names[: slots or count]}


def _cores(slots: int) -> Mapping[str, Affinity]:
    if slots == 1:
        return {"the CPU": WHOLE}
    if not hasattr(os, "sched_setaffinity"):
        raise ExecutorError(f"{slots} slots want cores of their own, which only Linux gives: ask for one slot")
    if (usable := len(os.sched_getaffinity(0))) < slots:
        raise ExecutorError(f"{slots} slots want a core each, this process may use {usable}: ask for fewer slots")
    return {f"share {number} of the CPU": Cores(number, slots) for number in range(slots)}
