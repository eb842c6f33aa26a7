"""Exported files are found and read by the engine they are for, and tell their origin.

The engines are not installed here: the tests look files up and read them as the engines document it.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from moebench.autotune.tables.engine import ENGINES, Engine
from moebench.autotune.tables.export import NotExportable, Tuned, export
from moebench.autotune.tables.lint import lint
from moebench.autotune.tables.serving_file import ServingError
from moebench.autotune.tables.starts import beside, candidates, refusal
from moebench.kernels.catalog import KERNELS
from moebench.kernels.triton.vllm_tiles import KNOBS, OWN_CHOICE

VLLM, SGLANG = ENGINES.load("vllm"), ENGINES.load("sglang")


def tiles(m: int = 16, stages: int = 3) -> dict[str, int]:
    return dict(zip(KNOBS, (m, 64, 128, 1, 4, stages), strict=True))


TUNED = Tuned(
    kernel="vllm_fused_moe",
    device="NVIDIA H100 80GB HBM3",
    triton="3.5.1",
    dtype="bfloat16",
    E=64,
    F=1024,
    D=2048,
    K=8,
    configs={16: tiles(), 64: tiles(32), 256: tiles(64)},
    about={"loads": ["uniform"]},
)


def vllm_finds(folder: Path, E: int, N: int, device: str, dtype: str | None) -> dict[int, Any] | None:
    """Look a file up as vLLM does: one folder, the version taken out, every other key an int."""
    word = device.replace(" ", "_")
    word = "NVIDIA_H200" if "H200" in word.split("_") else word
    path = folder / f"E={E},N={N},device_name={word}{f',dtype={dtype}' if dtype else ''}.json"
    if not path.exists():
        return None
    body = json.loads(path.read_text())
    body.pop("triton_version", None)
    return {int(key): value for key, value in body.items()}


def sglang_finds(
    folder: Path, E: int, N: int, device: str, dtype: str | None, triton: str, channel: bool = False
) -> dict[int, Any] | None:
    """Look a file up as SGLang does: the folder of its Triton version, then the others by number, every key an int."""
    selector = f",dtype={dtype}" if dtype else ""
    selector += ",per_channel_quant=True" if channel else ""
    name = f"E={E},N={N},device_name={device.replace(' ', '_')}{selector}.json"
    versions = [path.name.removeprefix("triton_").replace("_", ".") for path in (folder / "configs").glob("triton_*")]
    versions.sort(key=lambda version: tuple(int(part) for part in version.split(".")), reverse=True)
    for version in (triton, *versions):
        path = folder / "configs" / f"triton_{version.replace('.', '_')}" / name
        if path.exists():
            return {int(key): value for key, value in json.loads(path.read_text()).items()}
    return None


def test_vllm_finds_and_loads_it(tmp_path: Path) -> None:
    for one in export([TUNED], VLLM):
        path = one.write(tmp_path)
    assert json.loads(path.read_text())["triton_version"] == "3.5.1"
    assert vllm_finds(tmp_path, 64, 1024, "NVIDIA H100 80GB HBM3", None) == TUNED.configs


def test_between_two_batch_sizes_both_are_starts() -> None:
    found = {M: {"BLOCK_SIZE_M": M} for M in (16, 64, 256)}
    assert beside(found, 64) == [{"BLOCK_SIZE_M": 64}]
    assert beside(found, 100) == [{"BLOCK_SIZE_M": 64}, {"BLOCK_SIZE_M": 256}]
    assert beside(found, 8) == [{"BLOCK_SIZE_M": 16}]
    assert not beside({}, 8)


@pytest.mark.parametrize("running", ["3.5.1", "3.6.0"])
def test_sglang_finds_and_loads_it(running: str, tmp_path: Path) -> None:
    for one in export([TUNED], SGLANG):
        one.write(tmp_path)
    assert sglang_finds(tmp_path, 64, 1024, "NVIDIA H100 80GB HBM3", None, running) == TUNED.configs


def test_an_h200_of_any_kind_is_found_by_vllm(tmp_path: Path) -> None:
    for one in export([dataclasses.replace(TUNED, device="NVIDIA H200 NVL")], VLLM):
        one.write(tmp_path)
    assert vllm_finds(tmp_path, 64, 1024, "NVIDIA H200 NVL", None)


def test_float8_is_called_as_each_engine_calls_scales_by_row(tmp_path: Path) -> None:
    quantised = dataclasses.replace(TUNED, dtype="float8_e4m3fn")
    for engine in (VLLM, SGLANG):
        for one in export([quantised], engine):
            one.write(tmp_path)
    assert vllm_finds(tmp_path, 64, 1024, quantised.device, "fp8_w8a8")
    assert sglang_finds(tmp_path, 64, 1024, quantised.device, "fp8_w8a8", "3.5.1", channel=True)


@pytest.mark.parametrize("engine", [VLLM, SGLANG], ids=["vllm", "sglang"])
def test_beside_it_stands_where_it_came_from(engine: Engine, tmp_path: Path) -> None:
    (one,) = export([TUNED], engine)
    path = one.write(tmp_path)
    about = json.loads(path.with_name(path.name.removesuffix(".json") + ".about.json").read_text())
    assert "vllm_fused_moe" in about["tiles"]
    assert ("measure again" in about["tiles"]) == (engine is SGLANG)
    assert (about["model_width"], about["experts_per_token"], about["loads"]) == (2048, 8, ["uniform"])


@pytest.mark.parametrize("engine", [VLLM, SGLANG], ids=["vllm", "sglang"])
def test_the_linter_and_the_reader_take_it(engine: Engine, tmp_path: Path) -> None:
    (one,) = export([TUNED], engine)
    path = one.write(tmp_path)
    assert engine.load(path).configs == TUNED.configs
    assert not lint(tmp_path, triton="3.5.1").findings


def test_tokens_for_which_the_engine_did_best_by_itself_are_left_to_it_and_told() -> None:
    (one,) = export([dataclasses.replace(TUNED, configs={16: OWN_CHOICE, 64: tiles()})], VLLM)
    assert one.own == (16,)
    assert json.loads(one.body).keys() == {"triton_version", "64"}
    assert json.loads(one.about)["left_to_the_engine"] == [16]


@pytest.mark.parametrize("engine", [VLLM, SGLANG], ids=["vllm", "sglang"])
def test_with_pin_they_have_the_engines_own_tiles(engine: Engine, tmp_path: Path) -> None:
    (one,) = export([dataclasses.replace(TUNED, configs={16: OWN_CHOICE, 96: tiles()})], engine, pin=True)
    path = one.write(tmp_path)
    file = engine.load(path)
    own = engine.own_tiles(file.name)
    assert own is not None
    assert all(file.configs[file.nearest(M)] == own.tiles(M) for M in range(1, 57))
    assert all(file.configs[file.nearest(M)] == tiles() for M in range(57, 193))
    assert all(file.configs[file.nearest(M)] == own.tiles(M) for M in range(193, 9000))
    assert one.pinned == own.source
    about = json.loads(path.with_name(path.name.removesuffix(".json") + ".about.json").read_text())
    assert about["engine_tiles_pinned_from"] == own.source
    assert not [finding for finding in lint(tmp_path, triton="3.5.1").findings if finding.severity != "note"]


def test_with_pin_a_file_that_the_engine_ships_is_its_own_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installed package is read, and not imported."""
    half = dataclasses.replace(TUNED, configs={16: OWN_CHOICE, 96: tiles()})
    (shipped,) = export([dataclasses.replace(TUNED, configs={8: tiles(64, 2), 32: tiles(128, 2)})], VLLM)
    folder = tmp_path / "vllm" / "model_executor" / "layers" / "fused_moe" / "configs"
    shipped.write(folder)
    (tmp_path / "vllm" / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    (one,) = export([half], VLLM, pin=True)
    assert one.pinned == f"the file {one.name} that the installed vLLM ships"
    file = VLLM.load(one.write(tmp_path / "out"))
    assert [file.configs[file.nearest(M)] for M in (1, 20, 21, 57)] == [
        tiles(64, 2), tiles(64, 2), tiles(128, 2), tiles()
    ]  # fmt: skip


def test_with_pin_what_is_not_known_is_refused() -> None:
    unknown = dataclasses.replace(TUNED, dtype="float8_e4m3fn", device="NVIDIA X1")
    with pytest.raises(NotExportable, match="are not known: export without --pin"):
        export([unknown], SGLANG, pin=True)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"kernel": "triton_scatter"}, "its epilogue.*; tune vllm_fused_moe for this shape and export that"),
        ({"kernel": "loop"}, "its tiles are not those of the engines' kernel"),
        ({"configs": {16: OWN_CHOICE}}, "nothing to export"),
        ({"configs": {16: {"block_m": 16}}}, "is not what vllm_fused_moe is tuned in"),
        ({"configs": {16: tiles() | {"num_warps": "x"}}}, "is not what vllm_fused_moe is tuned in"),
        ({"dtype": "int3"}, "has no name for it"),
    ],
    ids=str,
)
@pytest.mark.parametrize("engine", [VLLM, SGLANG], ids=["vllm", "sglang"])
def test_what_no_engine_could_use_is_refused(changes: dict[str, Any], why: str, engine: Engine) -> None:
    with pytest.raises(NotExportable, match=why):
        export([dataclasses.replace(TUNED, **changes)], engine)


@pytest.mark.parametrize("device", ["../../etc/x", "a\x00b", "..", "NVIDIA\nH100"])
@pytest.mark.parametrize("engine", [VLLM, SGLANG], ids=["vllm", "sglang"])
def test_a_device_from_a_table_never_leaves_the_folder(device: str, engine: Engine, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    try:
        for one in export([dataclasses.replace(TUNED, device=device)], engine):
            one.write(inside)
    except ServingError:
        pass
    assert {path.name for path in tmp_path.iterdir()} <= {"inside"}
    assert all(path.name.startswith(("E=64", "configs")) for path in inside.glob("*"))


@pytest.mark.parametrize("triton", [None, "main", "3.5.1/../../x", "3.5.dev0"])
def test_a_triton_without_a_number_has_no_folder_of_sglang(triton: str | None) -> None:
    with pytest.raises(ServingError, match="tune it with a released Triton"):
        export([dataclasses.replace(TUNED, triton=triton)], SGLANG)


def test_layers_whose_files_would_have_one_name_are_refused() -> None:
    with pytest.raises(NotExportable, match="says neither D nor K"):
        export([TUNED, dataclasses.replace(TUNED, D=4096)], VLLM)


# Import.


def test_a_file_is_a_start_for_the_kernel_of_the_same_tiles(tmp_path: Path) -> None:
    body = {"1": tiles() | {"SPLIT_K": 1}, "64": tiles(32), "128": tiles() | {"kpack": 2}}
    path = tmp_path / "E=64,N=1024,device_name=NVIDIA_H100_80GB_HBM3.json"
    path.write_text(json.dumps(body))
    file = VLLM.load(path)
    assert refusal(file) is None
    assert candidates(file) == {1: tiles(), 64: tiles(32)}
    kernel = KERNELS.load("vllm_fused_moe")
    assert all(config.keys() == OWN_CHOICE.keys() for config in candidates(file).values())
    assert kernel.name == "vllm_fused_moe"


@pytest.mark.parametrize(
    ("stem", "why"), [("_down", "tiles for both projections"), (",dtype=fp8_w8a8", "16-bit floats")]
)
def test_tiles_of_something_else_are_no_start(stem: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / f"E=64,N=1024,device_name=NVIDIA_H200{stem}.json"
    path.write_text(json.dumps({"1": tiles()}))
    file = SGLANG.load(path)
    assert why in str(refusal(file))
    assert not candidates(file)
