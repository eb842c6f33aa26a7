"""The device that advice is for: by the records, by this machine, by the table of hardware."""

from __future__ import annotations

import pytest
import torch
from advised import timed
from records import ENVIRONMENT

from moebench.common.names import UnknownName
from moebench.kernels.hardware.device_limits import hardware
from moebench.kernels.hardware.device_names import device_name
from moebench.results.record import Record
from moebench.suites.advice.advised_device import InvalidDevice, advised_device

NEEDS_NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="the machine has a GPU")


def made_on(name: str, kind: str = "cuda", **changes: object) -> Record:
    return timed(
        "loop", 64, 1.0, environment=ENVIRONMENT.model_copy(update={"device": name, "device_type": kind, **changes})
    )


@NEEDS_NO_GPU
def test_without_a_word_it_is_the_device_of_the_records_else_the_one_here() -> None:
    here = advised_device(None, ())
    assert (here.name, here.kind, here.here) == (device_name(torch.device("cpu")), "cpu", True)
    assert (here.memory_bytes or 0) > 2**20
    there = advised_device(None, [made_on("NVIDIA H100 80GB HBM3", memory_bytes=85 * 10**9)])
    assert (there.name, there.kind, there.here) == ("NVIDIA H100 80GB HBM3", "cuda", False)
    assert (there.memory_bytes, there.target, there.torch.type) == (85 * 10**9, "sm_90", "meta")
    assert there.sheet is not None
    assert there.sheet.name == "H100 SXM"


def test_records_of_several_devices_need_a_word_and_a_part_of_the_name_is_enough() -> None:
    records = [made_on("NVIDIA H100 80GB HBM3"), made_on("NVIDIA H100 PCIe"), made_on("AMD EPYC (family 26)", "cpu")]
    with pytest.raises(InvalidDevice, match="the records are of 3 devices: give --device 'NVIDIA H100 80GB HBM3' or"):
        advised_device(None, records)
    assert advised_device("epyc", records).name == "AMD EPYC (family 26)"
    assert advised_device("pcie", records).name == "NVIDIA H100 PCIe"
    assert advised_device("NVIDIA H100 PCIe", records).name == "NVIDIA H100 PCIe"
    with pytest.raises(InvalidDevice, match=r"--device H100 fits .* and .*: give the whole name"):
        advised_device("H100", records)


@pytest.mark.parametrize(
    ("word", "sheet", "target", "memory"),
    [
        ("H100", "H100 SXM", "sm_90", 80e9),
        ("h200", "H200 SXM", "sm_90", 141e9),
        ("sm_80", "A100 SXM 80GB", "sm_80", 80e9),
        ("GB200", "B200", "sm_100", 180e9),
        ("MI300X", "MI300X", "gfx942", 192e9),
    ],
)
def test_a_gpu_of_the_table_need_not_be_here(word: str, sheet: str, target: str, memory: float) -> None:
    device = advised_device(word, ())
    assert device.sheet is not None
    assert (device.sheet.name, device.target, device.memory_bytes) == (sheet, target, memory)
    assert not device.here
    with device.assumed():
        assert hardware(device.torch).target == target


def test_records_come_before_the_table() -> None:
    device = advised_device("H100", [made_on("NVIDIA H100 80GB HBM3")])
    assert device.name == "NVIDIA H100 80GB HBM3"


def test_what_is_not_here_or_unknown_is_refused_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InvalidDevice, match="torch sees no GPU here: name one, such as --device H100"):
        advised_device("cuda", ())
    with pytest.raises(InvalidDevice, match="--device L40S: the table of hardware has no data sheet of it"):
        advised_device("L40S", ())
    with pytest.raises(UnknownName, match="no device is named 'H1000': did you mean H100"):
        advised_device("H1000", ())
    with pytest.raises(UnknownName, match="no device is named ''"):
        advised_device("", ())


@pytest.mark.parametrize("word", ["CPU", " Cpu "])
def test_this_machine_is_named_in_any_case_as_a_gpu_is(word: str) -> None:
    assert advised_device(word, ()) == advised_device("cpu", ())
