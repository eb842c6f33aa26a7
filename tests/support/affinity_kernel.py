"""A kernel that reports the devices and cores of its process; a task that names it registers it in workers.

`Both` is an affinity that its worker has to import.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from faulty_kernels import FAULTY, Faulty, Name
from torch import Tensor

from moebench.common.cores import usable_cores
from moebench.execution.workers.affinity import Affinity
from moebench.kernels.problem.tensors import Weights


@dataclass(frozen=True)
class Both:
    """Two affinities in one, so that one worker shows both."""

    first: Affinity
    second: Affinity
    exclusive = True

    def apply(self) -> None:
        self.first.apply()
        self.second.apply()


class TellsItsMask(Faulty):
    """Kernel that fails with the GPUs and cores that its process may use, those of this thread, and torch's threads."""

    def falsify(self, y_TD: Tensor, x_TD: Tensor, weights: Weights) -> Tensor:
        gpus, cores = os.environ.get("CUDA_VISIBLE_DEVICES"), list(usable_cores())
        bound, threads = sorted(os.sched_getaffinity(0)), torch.get_num_threads()
        raise RuntimeError(f"GPUs {gpus}, cores {cores}, {threads} threads, bound to {bound}")


class MaskedName(Name):
    """Kernel name whose unpickling in a worker imports this module."""

    __slots__ = ()


FAULTY["TellsItsMask"] = TellsItsMask()
