"""Files of tiles for vLLM's LoRA kernels are recognised by name, and read as far as vLLM would read them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moebench.autotune.tables.lint import lint
from moebench.autotune.tables.lora_files import check_lora, is_lora_name
from moebench.autotune.tables.serving_file import Finding, Severity

LEAF = {"block_m": 32, "block_n": 16, "block_k": 256, "num_warps": 4, "num_stages": 2, "max_nreg": None}
GOOD = {"4": {"1": {"16": {"2048": {"16": LEAF}}}}}
FUSED = {"4": {"1": {"16": {"2048": {"16": {"768": LEAF}}}}}}


def put(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def found(path: Path) -> list[Finding]:
    return list(check_lora(path, path.name))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("NVIDIA_H200_SHRINK.json", GOOD),
        ("NVIDIA_H200_EXPAND_TRUE.json", GOOD),
        ("NVIDIA_A100_SXM4_80GB_EXPAND_FALSE.json", {}),
        ("NVIDIA_H200_FUSED_MOE_LORA_W13_SHRINK.json", FUSED),
        ("NVIDIA_H200_FUSED_MOE_LORA_W2_EXPAND.json", FUSED),
    ],
)
def test_a_good_file_is_a_note(name: str, content: object, tmp_path: Path) -> None:
    (finding,) = found(put(tmp_path, name, content))
    assert (finding.severity, "tiles of vLLM's LoRA kernels" in finding.sentence) == (Severity.note, True)
    assert lint(tmp_path).files == 1


@pytest.mark.parametrize(
    "name", ["E=8,N=7168,device_name=NVIDIA_H200.json", "SHRINK.json", "x_SHRINK.txt", "notes.json"]
)
def test_other_names_are_not(name: str) -> None:
    assert not is_lora_name(name)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("NVIDIA_H200_EXPAND.json", GOOD, "rename it to NVIDIA_H200_EXPAND_TRUE.json"),
        ("NVIDIA_A100-SXM4-80GB_SHRINK.json", GOOD, "rename it to NVIDIA_A100_SXM4_80GB_SHRINK.json"),
        ("NVIDIA_H200_SHRINK.json", "{", "is no JSON"),
        ("NVIDIA_H200_SHRINK.json", [], "holds no JSON object"),
        ("NVIDIA_H200_SHRINK.json", {"max": GOOD["4"]}, "has the key 'max' for max_loras"),
        ("NVIDIA_H200_SHRINK.json", GOOD["4"], "has the key 'block_m' for n"),
        ("NVIDIA_H200_SHRINK.json", {"4": 1}, "has no object below max_loras = 4"),
        ("NVIDIA_H200_SHRINK.json", FUSED, "is nested deeper than vLLM looks, at '768'"),
        ("NVIDIA_H200_FUSED_MOE_LORA_W2_SHRINK.json", GOOD, "has the key 'block_m' for moe_intermediate_size"),
    ],
)
def test_what_vllm_could_not_read_is_an_error(name: str, content: object, why: str, tmp_path: Path) -> None:
    errors = [finding for finding in found(put(tmp_path, name, content)) if finding.severity is Severity.error]
    assert len(errors) == 1
    assert why in str(errors[0])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_text_that_only_python_recognises_is_an_error(encoding: str, tmp_path: Path) -> None:
    path = put(tmp_path, "NVIDIA_H200_SHRINK.json", GOOD)
    path.write_bytes(json.dumps(GOOD).encode(encoding))
    (finding,) = found(path)
    assert (finding.severity, finding.remedy) == (Severity.error, "save it as UTF-8 without a byte order mark")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=20,
)


@settings(deadline=None)  # a write waits for the disk
@given(json_values)
def test_any_content_is_answered(tmp_path_factory: pytest.TempPathFactory, content: object) -> None:
    assert found(put(tmp_path_factory.mktemp("lora"), "NVIDIA_H200_SHRINK.json", json.dumps(content)))
