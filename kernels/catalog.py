"""Names by listing files: a plugin is one file of a folder, imported only when it is asked for."""

from __future__ import annotations

import ast
import importlib
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from ..common.names import UnknownName, unknown

if TYPE_CHECKING:
    from .kernel import Kernel

Plugin = TypeVar("Plugin")


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
        """The first line of its file's docstring, read without importing it; in its place, that it is no Python."""
        source = files(self.package).joinpath(f"{name}.py").read_text(encoding="utf-8")
        try:
            return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
        except SyntaxError as error:
            return f"no Python: {error.msg} in line {error.lineno}"


def _is_plugin(filename: str) -> bool:
    return filename.endswith(".py") and not filename.startswith("_")


@dataclass(frozen=True)
class Kernels(Catalog["Kernel"]):
    """The kernels; of one whose file cannot be imported what is loaded says why, and refuses every problem."""

    unimportable: dict[str, Kernel] = field(default_factory=dict)

    def load(self, name: str) -> Kernel:
        """The kernel of that name, or what stands in its place.

        Raises:
            UnknownName: with the nearest valid names.
        """
        if name in self.unimportable:  # an import that fails starts from the beginning each time
            return self.unimportable[name]
        try:
            return super().load(name)
        except UnknownName:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever a file raises is its reason
            from .unimportable import Unimportable  # noqa: PLC0415  # imports torch

            said = (str(error) or "no message").splitlines()[0]
            reason = f"{name}.py cannot be imported ({type(error).__name__}: {said}); mend it, or leave the kernel out"
            self.unimportable[name] = Unimportable(name, reason)
            return self.unimportable[name]


KERNELS = Kernels("kernel", f"{__package__}.implementations", "kernel")
