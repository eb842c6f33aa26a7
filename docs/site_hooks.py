"""Hooks of the documentation site: what mkdocs calls, with the content that `site_content` makes."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import site_content
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files


@event_priority(100)  # before mkdocstrings reads the paths
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Show griffe and the report the folders of the repository as the package `moebench`, and list the API pages."""
    tree = Path(tempfile.mkdtemp(prefix="moebench-api-"))
    site_content.link_package(tree)
    config.plugins["mkdocstrings"].config["handlers"]["python"]["paths"] = [str(tree)]
    package = ModuleType("moebench")  # its own __init__ asks for the version of an installed package
    package.__path__ = [str(tree / "moebench")]
    sys.modules["moebench"] = package
    config.nav = [*(config.nav or []), {"API": site_content.api_navigation()}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the repository's root, a page for each package, and the report of the committed records."""
    for source, name in site_content.ROOT_PAGES.items():
        content = site_content.on_site((site_content.ROOT / source).read_text())
        files.append(File.generated(config, name, content=content))
    for name, content in site_content.api_pages().items():
        files.append(File.generated(config, name, content=content))
    files.append(File.generated(config, site_content.REPORT, content=site_content.recorded_report()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Turn links to pages in the repository's root into links on the site, and link the report."""
    return site_content.on_site(markdown)
