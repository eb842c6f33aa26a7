"""Modules that a module imports, and those that they import, with replacements where one needs more than torch."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

ALLOWED: Final = {"torch", "triton", *sys.stdlib_module_names}
"""Modules that a kernel of the hub may import besides its own."""


class ImpureModule(ValueError):
    """A module in the closure imports something that no kernel of the hub may import."""


def closure(root: Path, starts: Iterable[str], replaced: Mapping[str, str]) -> dict[str, Path]:
    """Return the files that are imported from some files on, those of packages included, by their paths below ``root``.

    ``replaced`` has for such a path the path of the file that stands in its place.

    Raises:
        ImpureModule: naming a module that is imported and not allowed, and the file that does.
    """
    found: dict[str, Path] = {}
    todo = list(starts)
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found[name] = root / replaced.get(name, name)
        folders = Path(name).parents[:-1]
        todo += [f"{folder.as_posix()}/__init__.py" for folder in folders]
        todo += _imported(root, name, found[name])
    return found


def _imported(root: Path, name: str, source: Path) -> Iterator[str]:
    """Yield the files that a file imports when it is itself imported; what functions import later is left out."""
    package = Path(name).parts[:-1]
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            _refuse(name, [alias.name for alias in node.names])
        elif isinstance(node, ast.ImportFrom):
            if not node.level:
                _refuse(name, [node.module or ""])
                continue
            base = Path(*package[: len(package) - node.level + 1], *(node.module or "").split("."))
            for alias in node.names:
                options = (base / f"{alias.name}.py", base / alias.name / "__init__.py", base.with_suffix(".py"))
                yield next((one.as_posix() for one in options if (root / one).is_file()), f"{base}/__init__.py")


def _refuse(file: str, modules: Iterable[str]) -> None:
    for module in modules:
        if module.partition(".")[0] not in ALLOWED:
            raise ImpureModule(f"{file} imports {module}, which a kernel of the hub may not: give it a stand-in")
