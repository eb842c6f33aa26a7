"""Names by listing files: a plugin is one file of a folder, imported only when it is asked for."""

from __future__ import annotations

import ast
import difflib
import importlib
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Generic, TypeVar, cast

if TYPE_CHECKING:
    from .kernel import Kernel

Plugin = TypeVar("Plugin")


class UnknownName(ValueError):
    """A name that is not known; the message gives the nearest ones."""


def unknown(kind: str, name: str, known: list[str]) -> UnknownName:
    """The error for a wrong name, with the nearest valid ones whatever their case, or all of them when none is near."""
    folded = {valid.casefold(): valid for valid in known}
    near = [folded[match] for match in difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.4)]
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
    return UnknownName(f"no {kind} is named {name!r}: {hint}")


@dataclass(frozen=True)
class Catalog(Generic[Plugin]):
    """The plugins of one package: every module without a leading underscore, each defining ``attribute``."""

    kind: str
    package: str
    attribute: str

    def names(self) -> list[str]:
        """All names, sorted; nothing is imported but the package itself."""
        stems = (entry.name.removesuffix(".py") for entry in files(self.package).iterdir() if _is_plugin(entry.name))
        return sorted(stems)

    def load(self, name: str) -> Plugin:
        """The plugin of that name.

        Raises:
            UnknownName: with the nearest valid names.
        """
        if name not in self.names():
            raise unknown(self.kind, name, self.names())
        return cast(Plugin, getattr(importlib.import_module(f"{self.package}.{name}"), self.attribute))

    def summary(self, name: str) -> str:
        """The first line of its file's docstring, read without importing it."""
        source = files(self.package).joinpath(f"{name}.py").read_text(encoding="utf-8")
        return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def _is_plugin(filename: str) -> bool:
    return filename.endswith(".py") and not filename.startswith("_")


KERNELS: Catalog[Kernel] = Catalog("kernel", f"{__package__}.implementations", "kernel")
