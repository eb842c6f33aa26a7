"""A fake torch.cuda with what is read of a device before anything is measured on it."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from fake_nvml import UUID


class FakeGpu:
    """Fake H100 that opens unless a test says otherwise; other processes hold some of its memory."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.capability = (9, 0)
        self.bfloat16 = True
        self.opening: Exception | None = None
        self.opened = 0
        self.held_bytes = 600 << 20  # the context of the process that asks
        patch.setattr(torch.cuda, "device_count", lambda: 1)
        patch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H100")
        patch.setattr(torch.cuda, "get_device_capability", lambda _: self.capability)
        patch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid=UUID))
        patch.setattr(torch.cuda, "is_bf16_supported", lambda **_: self.bfloat16)
        patch.setattr(torch.cuda, "synchronize", lambda _: None)
        patch.setattr(torch.cuda, "mem_get_info", lambda _: ((80 << 30) - self.held_bytes, 80 << 30))
        patch.setattr(torch.cuda, "memory_reserved", lambda _: 0)
        patch.setattr(torch.cuda, "device", lambda _: nullcontext())
        patch.setattr(torch, "zeros", self.zeros)

    def zeros(self, *_: object, **__: object) -> None:
        if self.opening:
            raise self.opening
        self.opened += 1
