"""The interface of a serving engine, and the catalog of the engines that are known."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from ...common.plugins import Catalog
from .lora_files import is_lora_name
from .own_tiles import OwnTiles
from .serving_file import Finding, PlacedFile, ServingError, ServingFile, Severity, TileFileName


class Engine(ABC):
    """One serving engine: where it looks for files of tuned tiles, under which names, and what it reads in them.

    Its name is that of its file in `engines`; the file's ``engine`` is its one instance. ``label`` is the name as the
    project spells it. ``version_rule`` says what the engine does with the Triton version of a file. ``own_kernel`` is a
    remark on its kernel for those who export, or "". ``scales_by_row``: its file names distinguish weights with a scale
    for every row. ``ships`` is where its installed package has files of its own, or "".
    """

    label: ClassVar[str]
    version_rule: ClassVar[str]
    own_kernel: ClassVar[str] = ""
    scales_by_row: ClassVar[bool] = False
    ships: ClassVar[str] = ""

    @property
    def name(self) -> str:
        """The name of its file, by which users choose it."""
        return type(self).__module__.rpartition(".")[2]

    @abstractmethod
    def owns(self, path: Path) -> bool:
        """Return whether a file lies where this engine looks for files; each file has one such engine at most."""

    @abstractmethod
    def file_name(self, name: TileFileName) -> str:
        """Return the name under which the engine looks for a file.

        Raises:
            ServingError: when it looks for no such file.
        """

    @abstractmethod
    def folder(self, triton: str | None) -> str:
        """Return the folder of files tuned with a Triton version, relative to the one given to the engine.

        Raises:
            ServingError: when there is none for that version.
        """

    @abstractmethod
    def body(self, file: ServingFile) -> str:
        """Return the text of a file."""

    @abstractmethod
    def read(self, path: Path, file: str) -> tuple[ServingFile | None, list[Finding]]:
        """Read a file and return it with what is wrong with it; ``file`` is what findings call it."""

    @abstractmethod
    def usage(self, folder: Path) -> str:
        """Return how a user makes the engine read an absolute folder, in one line."""

    def device_word(self, device: str) -> str:
        """Return the name of a device as file names have it."""
        return re.sub(r"[\s/]+", "_", device)

    def own_tiles(self, name: TileFileName) -> OwnTiles | None:
        """Return the tiles that the engine takes without a file, for weights that are not scaled by blocks.

        None where they are not known.
        """
        return None

    def tuned_with(self, placed: PlacedFile) -> str | None:
        """Return the Triton version that a file was tuned with, None where nothing says it."""
        return placed.content.triton

    def check(self, files: Sequence[PlacedFile], folder: Path) -> Iterator[Finding]:
        """Yield what breaks this engine only in its files of a folder."""
        return iter(())

    def load(self, path: Path) -> ServingFile:
        """Read a file without errors in it.

        Raises:
            ServingError: with the first error.
        """
        found, findings = self.read(path, str(path))
        errors = [finding for finding in findings if finding.severity is Severity.error]
        if errors or found is None:
            raise ServingError(str(errors[0]))
        return found


ENGINES: Catalog[Engine] = Catalog("engine", f"{__package__}.engines", "engine")


def engine_of(path: Path) -> Engine:
    """Return the engine that a file is meant for, by the folder it lies in and its name.

    Raises:
        ServingError: when no engine looks for such a file.
    """
    for name in ENGINES.names():
        engine = ENGINES.load(name)
        if engine.owns(path):
            return engine
    if is_lora_name(path.name):
        raise ServingError(f"{path} holds tiles of vLLM's LoRA kernels: `moebench tables lint` reads its folder")
    raise ServingError(f"{path} has no name of tuned tiles: E=…,N=…,device_name=….json is one")
