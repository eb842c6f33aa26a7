"""Traces of a forward and a training step by torch's profiler, for chrome://tracing or Perfetto."""

from __future__ import annotations

import sys

import torch
from torch.profiler import ProfilerActivity, profile

from ..forms import form
from .call import PROFILED, prepared, synchronize

WARM_UPS = 2
CALLS = 3  # in a trace, so that it shows the gaps between calls


def main() -> None:
    """Read the arguments (form, file for the forward, file for the training step) and write both traces."""
    name, *paths = sys.argv[1:]
    chosen = form(name)
    device = torch.device(chosen.device)
    for mode, path in zip(("forward", "train"), paths, strict=True):
        step = prepared(PROFILED, chosen.traced.replace(mode=mode), device)
        for _ in range(WARM_UPS):
            step()
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
        with profile(activities=activities) as profiler:
            for _ in range(CALLS):
                step()
            synchronize(device)
        profiler.export_chrome_trace(path)
        print(profiler.key_averages().table(sort_by=f"self_{device.type}_time_total", row_limit=20))  # noqa: T201  # the log


if __name__ == "__main__":
    main()
