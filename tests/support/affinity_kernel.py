"""A kernel that reports the devices and cores of its process; a task that names it registers it in workers."""

from __future__ import annotations

import os

import torch
from faulty_kernels import FAULTY, Faulty, Name
from torch import Tensor

from moebench.kernels.problem.tensors import Weights


class TellsItsMask(Faulty):
    """Kernel that fails with the GPUs and cores that its process sees and the number of torch's threads."""

    def falsify(self, y_TD: Tensor, x_TD: Tensor, weights: Weights) -> Tensor:
        gpus, cores = os.environ.get("CUDA_VISIBLE_DEVICES"), sorted(os.sched_getaffinity(0))
        raise RuntimeError(f"GPUs {gpus}, cores {cores}, {torch.get_num_threads()} threads")


class MaskedName(Name):
    """Kernel name whose unpickling in a worker imports this module."""

    __slots__ = ()


FAULTY["TellsItsMask"] = TellsItsMask()
