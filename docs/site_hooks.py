"""Hooks of the documentation site: pages from outside docs/, API pages, and the package as griffe can find it."""

from __future__ import annotations

import re
import tempfile
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

ROOT: Final = Path(__file__).resolve().parents[1]
ROOT_PAGES: Final = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Pages in the root of the repository, and their names on the site."""

OTHER_FILE: Final = re.compile(r"(?<!!)\[([^]]+)\]\((?![a-z]+://)[^)#]+\.(?!md\b)\w+\)")
"""A link to a file of the repository that is no page, such as one of records."""


@event_priority(100)  # before mkdocstrings reads the paths
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Show griffe the folders of the repository as the package `moebench`, and list the API pages."""
    tree = Path(tempfile.mkdtemp(prefix="moebench-api-"))
    (tree / "moebench").mkdir()
    for folder in {package.partition("/")[0] for package in _packages().values()}:
        (tree / "moebench" / folder).symlink_to(ROOT / folder)
    config.plugins["mkdocstrings"].config["handlers"]["python"]["paths"] = [str(tree)]
    sections: dict[str, list[Any]] = defaultdict(list)
    for package in _packages():
        sections[package.split(".")[1]].append({package.partition(".")[2]: f"api/{package}.md"})
    config.nav = [*(config.nav or []), {"API": [{folder: pages} for folder, pages in sections.items()]}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the repository's root and a page for each package."""
    for source, name in ROOT_PAGES.items():
        files.append(File.generated(config, name, content=_on_site((ROOT / source).read_text())))
    for package, folder in _packages().items():
        modules = [path.stem for path in sorted((ROOT / folder).glob("*.py")) if path.name != "__init__.py"]
        parts = [
            f"## `{name}`\n\n::: {package}.{name}\n    options:\n      show_root_heading: false\n" for name in modules
        ]
        files.append(File.generated(config, f"api/{package}.md", content="\n".join([f"# {package}\n", *parts])))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Turn links to pages in the repository's root into links on the site."""
    return _on_site(markdown)


def _packages() -> dict[str, str]:
    """Return the folder of every package, as pyproject.toml maps them."""
    packages: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"]
    return packages


def _on_site(markdown: str) -> str:
    """Point links from a page of the repository, or to one, to their places on the site, and unlink other files."""
    for source, name in ROOT_PAGES.items():
        markdown = re.sub(rf"\]\((\.\./)?{re.escape(source)}", f"]({name}", markdown)
    return OTHER_FILE.sub(r"\1", markdown.replace("](docs/", "]("))
