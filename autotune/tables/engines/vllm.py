"""vLLM: files in one folder, each of which may name the Triton version.

It looks in the folder of ``VLLM_TUNED_CONFIG_FOLDER`` before its own, takes ``triton_version`` out of the content and
makes an int of every other key. Tiles go to the kernel as they are: an unknown word among them stops it.
"""

from __future__ import annotations

import json
from pathlib import Path

from ..engine import Engine
from ..own_tiles import OwnTiles
from ..serving_file import Finding, ServingError, ServingFile, TileFileName, Tiles
from ..tile_reader import read_tiles

VERSION = "triton_version"
GROUPED = 129  # tokens for each expert from which vLLM's own tiles are grouped


class Vllm(Engine):
    """vLLM."""

    label = "vLLM"
    version_rule = "vLLM does not heed the version"
    ships = "vllm/model_executor/layers/fused_moe/configs"

    def owns(self, path: Path) -> bool:
        return path.name.startswith("E=") and not path.absolute().parent.name.startswith("triton_")

    def file_name(self, name: TileFileName) -> str:
        if name.down or name.per_channel:
            raise ServingError("vLLM has no files of the down projection, nor by channel: write them for SGLang")
        return name.spelled(device=self.device_word(name.device))

    def device_word(self, device: str) -> str:
        """Return the name of a device as file names have it: vLLM calls every H200 the same."""
        word = super().device_word(device)
        return "NVIDIA_H200" if "H200" in word.split("_") else word

    def folder(self, triton: str | None) -> str:
        return ""

    def body(self, file: ServingFile) -> str:
        head: dict[str, object] = {VERSION: file.triton} if file.triton else {}
        return json.dumps(head | {str(M): dict(file.configs[M]) for M in sorted(file.configs)}, indent=4) + "\n"

    def read(self, path: Path, file: str) -> tuple[ServingFile | None, list[Finding]]:
        return read_tiles(path, file, version_key=VERSION, stray="take it out")

    def own_tiles(self, name: TileFileName) -> OwnTiles:
        return OwnTiles(
            source="vLLM 0.33.0, get_default_config of vllm/model_executor/layers/fused_moe/fused_moe.py",
            tiles=lambda M: _own_tiles(M, name),
            turns=(33, 65, 97, 129, 513, GROUPED * max(name.E, 1)),
        )

    def usage(self, folder: Path) -> str:
        return f"VLLM_TUNED_CONFIG_FOLDER={folder}"


def _own_tiles(M: int, name: TileFileName) -> Tiles:
    """Return the tiles that vLLM 0.33.0 takes without a file: taller ones for larger batches."""
    small = M <= 64
    stages = 2 if name.device.startswith("AMD") else 4 if M <= 32 else 3
    return {
        "BLOCK_SIZE_M": 16 if M <= 32 else 32 if M <= 96 else 64 if M <= 512 else 128,
        "BLOCK_SIZE_N": 64 if small else 128,
        "BLOCK_SIZE_K": 128 if small or name.dtype == "fp8_w8a8" else 64,
        "GROUP_SIZE_M": 16 if GROUPED * max(name.E, 1) <= M else 1,
        "SPLIT_K": 1,
        "num_warps": 4 if M <= 128 else 8,
        "num_stages": stages,
    }


engine = Vllm()
