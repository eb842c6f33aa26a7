"""A kernel that tells what its process may use; a task that names it makes it known in workers."""

from __future__ import annotations

import os

import torch
from faulty_kernels import FAULTY, Faulty, Name
from torch import Tensor

from moebench.kernels.problem.tensors import Weights


class TellsItsMask(Faulty):
    """Fails with the GPUs and the cores that its process sees, and the threads that torch takes."""

    def falsify(self, y_TD: Tensor, x_TD: Tensor, weights: Weights) -> Tensor:
        gpus, cores = os.environ.get("CUDA_VISIBLE_DEVICES"), sorted(os.sched_getaffinity(0))
        raise RuntimeError(f"GPUs {gpus}, cores {cores}, {torch.get_num_threads()} threads")


class MaskedName(Name):
    """A name whose unpickling in a worker imports this module."""

    __slots__ = ()


FAULTY["TellsItsMask"] = TellsItsMask()
