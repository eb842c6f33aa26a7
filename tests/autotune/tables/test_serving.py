"""Files of serving engines: names both ways, bodies read as data, and written whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moebench.autotune.tables.serving import (
    LARGEST_FILE,
    Engine,
    Name,
    ServingError,
    ServingFile,
    device_word,
    load,
    read,
    write,
)

TILES = dict(
    zip(
        ("BLOCK_SIZE_M", "BLOCK_SIZE_N", "BLOCK_SIZE_K", "GROUP_SIZE_M", "num_warps", "num_stages"),
        (16, 64, 128, 1, 4, 3),
        strict=True,
    )
)
PLAIN = "E=8,N=7168,device_name=NVIDIA_H200.json"

names = st.builds(
    Name,
    E=st.integers(1, 4096),
    N=st.integers(1, 65536),
    device=st.sampled_from(
        ["NVIDIA_H200", "NVIDIA_A100-SXM4-80GB", "Orin_(nvgpu)", "Intel(R)_Arc(TM)_Pro_B60_Graphics", "NVIDIA_H20-3e"]
    ),
    dtype=st.sampled_from([None, "fp8_w8a8", "int4_w4a16", "int8_w8a16"]),
    block_shape=st.one_of(st.none(), st.tuples(st.integers(1, 512), st.integers(1, 512))),
    per_channel=st.booleans(),
    down=st.booleans(),
)
powers = st.sampled_from([16, 32, 64, 128, 256])
tiles = st.fixed_dictionaries(
    {"BLOCK_SIZE_M": powers, "BLOCK_SIZE_N": powers, "BLOCK_SIZE_K": powers, "GROUP_SIZE_M": st.integers(1, 64)},
    optional={"num_warps": st.sampled_from([1, 2, 4, 8]), "num_stages": st.integers(1, 8), "USE_TMA": st.booleans()},
)


@given(names)
def test_names_for_sglang_are_read_back(name: Name) -> None:
    assert Name.parse(name.file(Engine.sglang)) == name


@given(names)
def test_names_for_vllm_are_read_back_and_have_no_spaces(name: Name) -> None:
    if name.down or name.per_channel:
        with pytest.raises(ServingError, match="write them for SGLang"):
            name.file(Engine.vllm)
        return
    file = name.file(Engine.vllm)
    assert " " not in file
    assert Name.parse(file) == name


def test_names_are_spelled_as_each_engine_spells_them() -> None:
    name = Name(E=256, N=256, device="NVIDIA_H20-3e", dtype="fp8_w8a8", block_shape=(128, 128))
    stem = "E=256,N=256,device_name=NVIDIA_H20-3e,dtype=fp8_w8a8"
    assert name.file(Engine.vllm) == f"{stem},block_shape=[128,128].json"
    assert name.file(Engine.sglang) == f"{stem},block_shape=[128, 128].json"
    assert Name.parse(f"{stem},per_channel_quant=True_down.json") == Name(
        E=256, N=256, device="NVIDIA_H20-3e", dtype="fp8_w8a8", per_channel=True, down=True
    )


@pytest.mark.parametrize(
    "file",
    [
        "README.md",
        "E=8,N=7168.json",
        "E=-8,N=1,device_name=X.json",
        "E=8,N=7,device_name=../../x.json",
        "E=８,N=1,device_name=X.json",
    ],
)
def test_other_names_are_refused(file: str) -> None:
    with pytest.raises(ServingError, match="is no name of tuned tiles"):
        Name.parse(file)


@pytest.mark.parametrize("device", ["", "../x", "a/b", "NVIDIA H200", "x\n"])
def test_a_device_that_no_file_name_can_hold_is_refused(device: str) -> None:
    with pytest.raises(ServingError, match="letters, digits"):
        Name(E=1, N=1, device=device)


def test_vllm_has_one_word_for_every_h200() -> None:
    assert device_word("NVIDIA H200 NVL", Engine.vllm) == "NVIDIA_H200"
    assert device_word("NVIDIA H200 NVL", Engine.sglang) == "NVIDIA_H200_NVL"
    assert device_word("NVIDIA H20", Engine.vllm) == "NVIDIA_H20"


@settings(deadline=None)  # a write waits for the disk
@given(st.dictionaries(st.integers(1, 2**20), tiles, min_size=1), st.sampled_from(Engine))
def test_bodies_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, configs: dict[int, dict[str, int]], engine: Engine
) -> None:
    file = ServingFile(name=Name.parse(PLAIN), configs=configs, triton="3.5.0" if engine is Engine.vllm else None)
    path = write(tmp_path_factory.mktemp("tiles"), PLAIN, file.body(engine))
    assert load(path, engine) == file


def put(folder: Path, content: object, name: str = PLAIN) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "is no JSON"),
        ("[]", "holds no JSON object"),
        ("[" * 100_000, "is no JSON"),
        ('{"1": NaN}', "NaN is no number"),
        ('{"1": ' + "9" * 5000 + "}", "is no JSON"),
        ({}, "has no tiles"),
        ({"1": 3}, "has no object of tiles"),
        ({"1": TILES | {"BLOCK_SIZE_M": 24}}, "BLOCK_SIZE_M = 24 is no power of two"),
        ({"1": TILES | {"num_warps": 3}}, "num_warps = 3 is no power of two"),
        ({"1": TILES | {"BLOCK_SIZE_M": "os.system"}}, "BLOCK_SIZE_M = os.system is no count"),
        ({"1": TILES | {"BLOCK_SIZE_M": 16.0}}, "BLOCK_SIZE_M = 16.0 is no count"),
        ({"1": TILES | {"BLOCK_SIZE_M": -16}}, "is no count"),
        ({"1": {"BLOCK_SIZE_M": 16}}, "has no BLOCK_SIZE_N"),
        ({"1": TILES, "note": "mine"}, "the key 'note' is no batch size"),
        ('{"1": {"BLOCK_SIZE_M": 16, "BLOCK_SIZE_M": 32}}', "BLOCK_SIZE_M stands there twice"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_wrong_with_a_body_is_said(content: object, why: str, tmp_path: Path) -> None:
    with pytest.raises(ServingError) as refused:
        load(put(tmp_path, content), Engine.vllm)
    assert why in str(refused.value)
    assert len(str(refused.value)) < 500


def test_the_triton_version_is_a_key_of_vllm_only(tmp_path: Path) -> None:
    path = put(tmp_path, {"triton_version": "3.5.0", "1": TILES})
    assert load(path, Engine.vllm).triton == "3.5.0"
    with pytest.raises(ServingError, match="SGLang makes an int of it; take it out"):
        load(path, Engine.sglang)


def test_a_batch_size_that_stands_there_twice_is_found_whatever_its_spelling(tmp_path: Path) -> None:
    other = json.dumps(TILES | {"num_stages": 4})
    path = put(tmp_path, f'{{"16": {json.dumps(TILES)}, "016": {other}}}')
    with pytest.raises(ServingError, match="M = 16: stands there twice, with other tiles"):
        load(path, Engine.vllm)
    same = put(tmp_path, f'{{"16": {json.dumps(TILES)}, "16": {json.dumps(TILES)}}}')
    _, findings = read(same, Engine.vllm)
    assert [(finding.severity, finding.kind) for finding in findings] == [("warning", "duplicate")]


def test_an_argument_that_no_known_kernel_has_is_a_warning(tmp_path: Path) -> None:
    _, findings = read(put(tmp_path, {"1": TILES | {"kpack": 2, "PLAN": 1}}), Engine.vllm)
    assert [finding.sentence.partition(" ")[0] for finding in findings] == ["PLAN"]
    assert findings[0].severity == "warning"


def test_files_too_long_or_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="is longer than"):
        load(put(tmp_path, " " * (LARGEST_FILE + 1)), Engine.vllm)
    with pytest.raises(ServingError, match="No such file"):
        load(tmp_path / "E=1,N=1,device_name=X.json", Engine.vllm)


def test_the_nearest_batch_is_looked_up_the_first_of_two(tmp_path: Path) -> None:
    file = load(put(tmp_path, {"64": TILES, "16": TILES, "256": TILES}), Engine.vllm)
    assert [file.nearest(M) for M in (1, 39, 40, 41, 160, 161, 9999)] == [16, 16, 64, 64, 64, 256, 256]


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "a.json", "before")

    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="full"):
        write(tmp_path, "a.json", "after")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
