"""The style and the script of a page, and the content security policy that lets nothing else in.

The policy names the two by their SHA-256 (Content Security Policy Level 3, section 2.3.1). Blocks of JSON are data and
no scripts; style attributes and event attributes are refused, so a page has none.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import Final

STYLES: Final = ("page", "plots", "tables", "long_tables", "live", "narrow", "print")
SCRIPTS: Final = (
    "element",
    "blocks",
    "facts",
    "records",
    "tooltip",
    "marks",
    "legend",
    "measures",
    "rows",
    "sorting",
    "filter",
    "printing",
    "start",
)
_REPORTS: Final = (__package__ or "").rpartition(".")[0]
LIBRARIES: Final = ("floating-ui.core.umd.min", "floating-ui.dom.umd.min")


@cache
def stylesheet() -> str:
    """Return the stylesheet of every page."""
    return "".join(_text("styles", f"{name}.css") for name in STYLES)


@cache
def script() -> str:
    """Return the one script of every page: the libraries, then the page's own files in a scope of their own."""
    licence = "/*\n" + _text("vendor", "LICENSE-floating-ui") + "*/\n"
    libraries = licence + "".join(_text("vendor", f"{name}.js").rstrip() + "\n" for name in LIBRARIES)
    own = "".join(_text("scripts", f"{name}.js") for name in SCRIPTS)
    return f'{libraries}(() => {{\n"use strict";\n{own}}})();\n'


def policy(style: str, code: str = "") -> str:
    """Return the policy of a page that has this style and this script, or no script."""
    scripts = [f"script-src {_hashed(code)}"] if code else []
    others = ["img-src data:", "base-uri 'none'", "form-action 'none'"]
    return "; ".join(["default-src 'none'", *scripts, f"style-src {_hashed(style)}", *others])


def _text(folder: str, name: str) -> str:
    return (files(_REPORTS) / "templates" / folder / name).read_text(encoding="utf-8")


def _hashed(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
