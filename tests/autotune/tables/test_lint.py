"""The linter: each fault that it names is found where it is, and nowhere else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from moebench.autotune.tables.engine import ENGINES
from moebench.autotune.tables.lint import lint
from moebench.autotune.tables.serving_file import Finding, ServingError
from moebench.autotune.tables.starts import candidates
from moebench.kernels.triton.vllm_tiles import KNOBS

LADDER = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024, 1536, 2048, 3072, 4096)
PLAIN = "E=7,N=96,device_name=NVIDIA_H100_80GB_HBM3"


def tiles(m: int = 16, n: int = 64, k: int = 128, group: int = 1, warps: int = 4, stages: int = 3) -> dict[str, int]:
    return dict(zip(KNOBS, (m, n, k, group, warps, stages), strict=True))


def put(path: Path, changes: dict[int, dict[str, int] | None] | None = None, triton: str | None = "3.5.0") -> Path:
    """Write a file for all usual batch sizes without a fault but for ``changes``; None leaves a size out."""
    configs = {M: tiles() for M in LADDER} | (changes or {})
    body: dict[str, object] = {"triton_version": triton} if triton else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(body | {str(M): config for M, config in configs.items() if config}))
    return path


def found(folder: Path, kind: str | None = None, **options: object) -> list[Finding]:
    findings = lint(folder, **options).findings  # type: ignore[arg-type]
    return [finding for finding in findings if kind in (None, finding.kind)]


def vllm(folder: Path, stem: str = PLAIN, **changes: object) -> Path:
    return put(folder / f"{stem}.json", **changes)  # type: ignore[arg-type]


def sglang(folder: Path, stem: str = PLAIN, **changes: object) -> Path:
    return put(folder / "configs" / "triton_3_5_0" / f"{stem}.json", triton=None, **changes)  # type: ignore[arg-type]


def test_nothing_is_found_in_good_files(tmp_path: Path) -> None:
    vllm(tmp_path)
    vllm(tmp_path, f"{PLAIN},dtype=fp8_w8a8,block_shape=[128,128]", changes={1: tiles(m=32)})
    sglang(tmp_path, f"{PLAIN},dtype=fp8_w8a8,block_shape=[128, 128]", changes={2: tiles(m=32)})
    sglang(tmp_path, f"{PLAIN},dtype=fp8_w8a8,block_shape=[128, 128]_down", changes={2: tiles(m=32, n=128)})
    linted = lint(tmp_path, triton="3.5.0")
    assert (linted.files, linted.findings) == (4, [])


def test_a_folder_without_such_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="is no folder"):
        lint(tmp_path / "nowhere")
    (tmp_path / "notes.json").write_text("{}")
    with pytest.raises(ServingError, match="holds no file of tuned tiles"):
        lint(tmp_path)


# Shared memory. Real tuned files reach exactly these limits: 4 × 24576 and 98304 of 101376.
FITTING = [
    ("NVIDIA_L40S", "", tiles(16, 32, 256, stages=5)),
    ("NVIDIA_L40S", ",dtype=fp8_w8a8", tiles(32, 64, 256, stages=5)),
    ("NVIDIA_A100-SXM4-80GB", ",dtype=int8_w8a16", tiles(64, 256, 64, stages=4)),
    ("NVIDIA_B200", ",dtype=fp8_w8a8", tiles(256, 256, 64, stages=5)),
    ("AMD_Instinct_MI325X", ",dtype=fp8_w8a8", tiles(256, 256, 64, stages=2)),
    ("NVIDIA_H100_80GB_HBM3", ",dtype=fp8_w8a8,block_shape=[64,64]", tiles(256, 256, 256, stages=4)),
    ("NVIDIA_GeForce_GTX_1080", "", tiles(256, 256, 256, stages=9)),
]


@pytest.mark.parametrize(("name", "dtype", "config"), FITTING, ids=lambda value: str(value)[:40])
def test_tiles_that_may_start_are_left_alone(name: str, dtype: str, config: dict[str, int], tmp_path: Path) -> None:
    vllm(tmp_path, f"E=7,N=96,device_name={name}{dtype}", changes={64: config})
    assert not [finding for finding in found(tmp_path, "shared memory") if finding.severity == "error"]


@pytest.mark.parametrize(
    ("name", "dtype", "config", "needed"),
    [
        ("NVIDIA_L40S", "", tiles(16, 32, 256, stages=6), 122880),
        ("NVIDIA_A100_80GB_PCIe", "", tiles(128, 256, 64, stages=5), 196608),
        ("AMD_Instinct_MI300X", "", tiles(256, 256, 128, stages=2), 131072),
        ("NVIDIA_H200", ",dtype=float32", tiles(128, 128, 64, stages=5), 262144),
    ],
)
def test_tiles_that_cannot_start_are_found(
    name: str, dtype: str, config: dict[str, int], needed: int, tmp_path: Path
) -> None:
    vllm(tmp_path, f"E=7,N=96,device_name={name}{dtype}", changes={64: config})
    (finding,) = found(tmp_path, "shared memory")
    assert (finding.severity, finding.M) == ("error", 64)
    assert f"need {needed} bytes" in finding.sentence


def test_an_older_triton_has_one_buffer_on_amd(tmp_path: Path) -> None:
    stem = "E=7,N=96,device_name=AMD_Instinct_MI325X,dtype=fp8_w8a8"
    put(tmp_path / "triton_3_1_0" / f"{stem}.json", {256: tiles(128, 256, 128, stages=4)}, triton=None)
    assert not found(tmp_path, "shared memory")
    assert found(tmp_path, "shared memory", triton="3.5.0")[0].M == 256


# Versions and names.


def test_another_triton_version_is_told(tmp_path: Path) -> None:
    vllm(tmp_path)
    sglang(tmp_path, changes={1: tiles(m=32)})
    assert not found(tmp_path, "version", triton="3.5.0")
    assert [finding.severity for finding in found(tmp_path, "version", triton="3.6.0")] == ["warning", "warning"]
    vllm(tmp_path, triton=None)
    assert [finding.severity for finding in found(tmp_path, "version", triton="3.5.0")] == ["note"]


def test_a_folder_whose_version_is_no_numbers_stops_sglang(tmp_path: Path) -> None:
    sglang(tmp_path)
    (tmp_path / "configs" / "triton_3_6_0+git").mkdir()
    (finding,) = found(tmp_path, "version")
    assert (finding.severity, finding.file) == ("error", "configs/triton_3_6_0+git")


@pytest.mark.parametrize(
    ("put_it", "stem", "remedy"),
    [
        (vllm, f"{PLAIN},dtype=fp8_w8a8,block_shape=[64, 64]", "block_shape=[64,64].json"),
        (sglang, f"{PLAIN},dtype=fp8_w8a8,block_shape=[64,64]", "block_shape=[64, 64].json"),
        (vllm, f"{PLAIN}_down", "write them for SGLang"),
        (vllm, f"{PLAIN},dtype=fp8_w8a8,per_channel_quant=True", "write them for SGLang"),
    ],
)
def test_a_name_that_is_never_looked_for_is_an_error(put_it, stem: str, remedy: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    put_it(tmp_path, stem)
    (finding,) = found(tmp_path, "name")
    assert finding.severity == "error"
    assert remedy in finding.remedy


def test_other_files_are_left_out_and_said(tmp_path: Path) -> None:
    vllm(tmp_path)
    (tmp_path / "N=7168,K=2048,device_name=NVIDIA_H200.json").write_text("{}")
    (tmp_path / f"{PLAIN}.about.json").write_text("{}")
    assert [(finding.severity, finding.file) for finding in found(tmp_path)] == [
        ("note", "N=7168,K=2048,device_name=NVIDIA_H200.json")
    ]


def test_files_as_vllm_ships_them_for_other_kernels_and_devices_are_no_errors(tmp_path: Path) -> None:
    """Intel's register mode is text; FlyDSL's files name their backend and have tiles by other words."""
    arc, flydsl = "Intel(R)_Arc(TM)_Pro_B70_Graphics", "AMD_Instinct_MI350X,dtype=int4_w4a16,backend=flydsl"
    vllm(tmp_path, f"E=7,N=96,device_name={arc}", changes={1: {**tiles(), "grf_mode": "256"}})
    vllm(tmp_path, f"E=7,N=96,device_name={flydsl}", changes={1: {"tile_m": 16}})
    assert {finding.severity for finding in found(tmp_path)} == {"note"}
    (intel,) = tmp_path.glob("*Intel*")
    assert 1 not in candidates(ENGINES.load("vllm").load(intel))


def test_a_folder_of_another_name_is_no_version_of_sglang(tmp_path: Path) -> None:
    sglang(tmp_path / "triton_utils")
    assert not found(tmp_path / "triton_utils")


def test_files_are_of_the_engine_that_is_named(tmp_path: Path) -> None:
    vllm(tmp_path)
    (finding,) = found(tmp_path, "key", engine=ENGINES.load("sglang"))
    assert "triton_version" in finding.sentence


# Element types.


def test_a_dtype_is_compared_with_what_the_name_says_of_it(tmp_path: Path) -> None:
    vllm(tmp_path, f"{PLAIN},dtype=mxfp9")
    vllm(tmp_path, f"{PLAIN},block_shape=[128,128]", changes={1: tiles(m=32)})
    blocked, unknown = found(tmp_path, "dtype")
    assert (blocked.severity, "elements that have none" in blocked.sentence) == ("error", True)
    assert "mxfp9 is not known" in unknown.sentence


# SGLang's second file.


def test_projections_with_other_rows_are_told_with_their_batches(tmp_path: Path) -> None:
    """Only one file has an entry for 64, so that the nearest entries of the two differ between 48 and 96."""
    sglang(tmp_path, changes={64: tiles(m=32)})
    sglang(tmp_path, f"{PLAIN}_down", changes={64: None})
    (finding,) = found(tmp_path, "down projection")
    assert (finding.severity, finding.M) == ("warning", 57)
    assert "BLOCK_SIZE_M is 16, beside 32" in finding.sentence
    assert "for batches of 57, 64, 72, 73, 80" in finding.sentence


def test_a_down_projection_alone_is_a_warning(tmp_path: Path) -> None:
    sglang(tmp_path, f"{PLAIN}_down")
    (finding,) = found(tmp_path, "down projection")
    assert finding.severity == "warning"
    assert f"add {PLAIN}.json" in finding.remedy


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("NVIDIA_H100", "hardly a driver reports a device as NVIDIA_H100"),
        ("NVIDIA_A100", "no driver reports a device as NVIDIA_A100"),
        ("NVIDIA_H100_80GB_HMB3", "shows, such as NVIDIA_H100_80GB_HBM3"),
    ],
)
@pytest.mark.parametrize("put_it", [vllm, sglang])
def test_a_device_that_no_driver_reports_is_a_warning(put_it, device: str, said: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    put_it(tmp_path, f"E=7,N=96,device_name={device}")
    (finding,) = found(tmp_path)
    assert (finding.severity, said in str(finding)) == ("warning", True)


@pytest.mark.parametrize("device", ["NVIDIA_H200_NVL", "NVIDIA_B300_SXM6_AC", "AMD_Instinct_MI355_OAM", "NVIDIA_R200"])
def test_a_device_that_one_reports_or_that_may_be_new_is_no_warning(device: str, tmp_path: Path) -> None:
    sglang(tmp_path, f"E=7,N=96,device_name={device}")
    assert not found(tmp_path, "name")


def test_small_batches_that_take_the_tiles_of_a_large_one_are_a_warning(tmp_path: Path) -> None:
    vllm(tmp_path, changes=dict.fromkeys((M for M in LADDER if M < 96), None))
    (finding,) = found(tmp_path)
    assert "batches of M = 1 to 95 take the tiles of M = 96" in str(finding)


def test_tiles_of_lora_kernels_are_files_too(tmp_path: Path) -> None:
    """Count such files, in a folder without any others as well; their own tests have what is said of them."""
    (tmp_path / "NVIDIA_H200_EXPAND_TRUE.json").write_text("{}")
    linted = lint(tmp_path)
    assert (linted.files, [finding.severity for finding in linted.findings]) == (1, ["note"])


def test_a_pipe_among_the_files_is_not_waited_for(tmp_path: Path) -> None:
    path = vllm(tmp_path)
    path.unlink()
    os.mkfifo(path)
    (finding,) = found(tmp_path)
    assert "cannot be read (no regular file)" in str(finding)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_text_that_python_recognises_and_engines_do_not_is_an_error(encoding: str, tmp_path: Path) -> None:
    path = vllm(tmp_path)
    path.write_bytes(path.read_text().encode(encoding))
    (finding,) = found(tmp_path)
    assert finding.severity == "error"
    assert "which no engine reads; save it as UTF-8 without a byte order mark" in str(finding)
