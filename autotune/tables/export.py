"""Export of tuned tables as files of serving engines, for the kernel whose tiles mean the same there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...common.errors import UserError
from ...common.files import write_whole
from ...kernels.triton.vllm_tiles import KNOBS
from .engine import Engine
from .own_tiles import OwnTiles, pinned, shipped
from .serving_file import ServingFile, TileFileName, Tiles

SAME_TILES = "vllm_fused_moe"
"""The kernel whose tiles are those of vLLM's `fused_moe_kernel`; SGLang's kernel began as a copy of it."""

ABOUT = ".about.json"
"""The ending, in place of .json, of a file that says where another came from; no engine looks for such a name."""

ELSEWHERE = {
    "triton_scatter": "its epilogue, its tensor descriptors and its split and persistent products differ from theirs",
    "triton_kernels_moe": "it chooses its own tiles",
}
# Our float8 has a scale for every output row, which not every engine's file name distinguishes from a single scale.
DTYPES = {"float16": None, "bfloat16": None, "float32": "float32", "float8_e4m3fn": "fp8_w8a8"}


class NotExportable(UserError, ValueError):
    """No engine could use this; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """The choices for one layer on one device: configurations by tokens T, with the shape letters of `problem`.

    ``triton`` is the version that they were measured with; ``about`` has anything else about their origin.
    """

    kernel: str
    device: str
    triton: str | None
    dtype: str
    E: int
    F: int
    D: int
    K: int
    configs: Mapping[int, Mapping[str, int | float | str | bool]]
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A file for an engine, and the text of one beside it that says where it came from.

    ``folder`` is relative to the one that is given to the engine. ``own`` has the T for which the engine's own choice
    was kept. With ``pinned`` the file has the engine's own tiles for them, and says where they are from; with None they
    will take the tiles of the nearest M. ``smallest`` is the smallest M of the file.
    """

    folder: str
    name: str
    body: str
    about: str
    own: tuple[int, ...]
    smallest: int
    pinned: str | None = None

    def write(self, root: Path) -> Path:
        """Write both files, each whole or not at all, and return the path of the engine's.

        Raises:
            OSError: when they cannot be written.
        """
        path = root / self.folder / self.name
        write_whole(path.with_name(self.name.removesuffix(".json") + ABOUT), self.about)
        write_whole(path, self.body)
        return path


def export(tuned: Iterable[Tuned], engine: Engine, *, pin: bool = False) -> list[Exported]:
    """Return the files of tuned layers for an engine.

    The engines' files hold nothing but batch sizes and tiles, so a file beside each says what was measured, and how.
    With ``pin`` batches for which the engine's own choice was kept, and those far from any measured one, have its own
    tiles in the file.

    Raises:
        NotExportable: for another kernel, for nothing to export, for layers whose files would have one name, and with
            ``pin`` where the engine's own tiles are not known.
        ServingError: for a device or a Triton version that no file name can hold.
    """
    exported = [_export(one, engine, pin=pin) for one in tuned]
    for index, one in enumerate(exported):
        for other in exported[:index]:
            if (one.folder, one.name) == (other.folder, other.name):
                raise NotExportable(
                    f"two layers would be {one.name}, which says neither D nor K nor how it was measured: export one "
                    "table at a time, or one --model-width, each into its own folder"
                )
    return exported


def _export(tuned: Tuned, engine: Engine, *, pin: bool) -> Exported:
    if tuned.kernel != SAME_TILES:
        why = ELSEWHERE.get(tuned.kernel, "its tiles are not those of the engines' kernel")
        raise NotExportable(
            f"{tuned.kernel} was measured, and {engine.label} would run its own kernel with the tiles: {why}; "
            f"tune {SAME_TILES} for this shape and export that"
        )
    if tuned.dtype not in DTYPES:
        raise NotExportable(f"dtype {tuned.dtype}: {engine.label} has no name for it; there are {', '.join(DTYPES)}")
    chosen = {T: dict(config) for T, config in sorted(tuned.configs.items()) if any(config.values())}
    own = tuple(sorted(tuned.configs.keys() - chosen.keys()))
    if not chosen:
        raise NotExportable(
            f"{engine.label}'s own choice was kept for every T of E = {tuned.E}, F = {tuned.F}: nothing to export"
        )
    for T, config in chosen.items():
        if config.keys() != set(KNOBS) or not all(isinstance(number, int) for number in config.values()):
            raise NotExportable(f"T = {T}: {config} is not what {SAME_TILES} is tuned in: {', '.join(KNOBS)}")
    name = TileFileName(
        E=tuned.E,
        N=tuned.F,
        device="_".join(tuned.device.replace("/", " ").split()),
        dtype=DTYPES[tuned.dtype],
        per_channel=engine.scales_by_row and tuned.dtype == "float8_e4m3fn",
    )
    configs: dict[int, Tiles] = {T: {word: int(n) for word, n in config.items()} for T, config in chosen.items()}
    folder, file = engine.folder(tuned.triton), engine.file_name(name)
    by_itself = _own_tiles(engine, name, Path(folder, file)) if pin else None
    if by_itself is not None:
        configs = pinned(configs, own, by_itself)
    source = by_itself.source if by_itself else None
    return Exported(
        folder=folder,
        name=file,
        body=engine.body(ServingFile(name=name, configs=configs, triton=tuned.triton)),
        about=json.dumps(_about(tuned, engine, own, source), indent=2) + "\n",
        own=own,
        smallest=min(configs),
        pinned=source,
    )


def _own_tiles(engine: Engine, name: TileFileName, file: Path) -> OwnTiles:
    """Return the tiles that an engine takes by itself: those of a file that its installed package ships, or its rule.

    Raises:
        NotExportable: where they are not known.
    """
    package, _, inside = engine.ships.partition("/")
    spec = find_spec(package) if package else None
    for root in (spec and spec.submodule_search_locations) or ():
        if (path := Path(root, inside, file)).is_file():
            return shipped(engine.load(path), f"the file {file.name} that the installed {engine.label} ships")
    found = engine.own_tiles(name)
    if found is None:
        raise NotExportable(
            f"the tiles that {engine.label} takes by itself for {name.dtype or '16-bit floats'} on {name.device} are "
            "not known: export without --pin"
        )
    return found


def _about(tuned: Tuned, engine: Engine, own: tuple[int, ...], source: str | None) -> dict[str, object]:
    kernel = f"measured with moebench's {SAME_TILES}, which is vLLM's fused_experts and its Triton kernel"
    remark = f"; {engine.own_kernel}" if engine.own_kernel else ""
    return {
        "made_by": f"moebench {version('moebench')}",
        "tiles": kernel + remark,
        "device": tuned.device,
        "triton": tuned.triton,
        "dtype": tuned.dtype,
        "experts": tuned.E,
        "expert_width": tuned.F,
        "model_width": tuned.D,
        "experts_per_token": tuned.K,
        "left_to_the_engine": list(own),
        "engine_tiles_pinned_from": source,
        **tuned.about,
    }
