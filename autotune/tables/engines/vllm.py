"""vLLM: files in one folder, each of which may name the Triton version.

It looks in the folder of ``VLLM_TUNED_CONFIG_FOLDER`` before its own, takes ``triton_version`` out of the content and
makes an int of every other key. Tiles go to the kernel as they are: an unknown word among them stops it.
"""

from __future__ import annotations

import json
from pathlib import Path

from ..engine import Engine
from ..serving_file import Finding, ServingError, ServingFile, TileFileName
from ..tile_reader import read_tiles

VERSION = "triton_version"


class Vllm(Engine):
    """vLLM."""

    label = "vLLM"
    version_rule = "vLLM does not heed the version"

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

    def usage(self, folder: Path) -> str:
        return f"VLLM_TUNED_CONFIG_FOLDER={folder}"


engine = Vllm()
