"""Names by listing files: a plugin is one file of a folder, imported only when it is asked for."""

from __future__ import annotations

import ast
import importlib
import sys
from dataclasses import dataclass
from importlib.resources import files
from typing import Generic, TypeVar, cast

from .names import unknown

Plugin_co = TypeVar("Plugin_co", covariant=True)


@dataclass(frozen=True)
class Catalog(Generic[Plugin_co]):
    """The plugins of one package: every module without a leading underscore, each of which defines ``attribute``.

    ``kind`` is the noun for one of them in messages.
    """

    kind: str
    package: str
    attribute: str

    def names(self) -> list[str]:
        """Return all names, sorted. Nothing is imported but the package itself."""
        stems = (entry.name.removesuffix(".py") for entry in files(self.package).iterdir() if _is_plugin(entry.name))
        return sorted(stems)

    def load(self, name: str) -> Plugin_co:
        """Import the plugin of that name and return it.

        Raises:
            UnknownName: with the nearest valid names.
        """
        module = f"{self.package}.{name}"
        # Layers choose among all kernels: listing the folder for each would take a fifth of a millisecond every time.
        if name.startswith("_") or not hasattr(sys.modules.get(module), self.attribute):
            if name not in self.names():
                raise unknown(self.kind, name, self.names())
            importlib.import_module(module)
        return cast(Plugin_co, getattr(sys.modules[module], self.attribute))

    def summary(self, name: str) -> str:
        """Return the first line of the file's docstring without importing the file, or why it is not valid Python."""
        source = files(self.package).joinpath(f"{name}.py").read_text(encoding="utf-8")
        try:
            return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
        except SyntaxError as error:
            return f"not valid Python: {error.msg} in line {error.lineno}"


def _is_plugin(filename: str) -> bool:
    return filename.endswith(".py") and not filename.startswith("_")
