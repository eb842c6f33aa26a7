"""The pages of the documentation, their code blocks and the commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LANGUAGES = {"bash", "console", "python", "text", "toml", "yaml"}


@dataclass(frozen=True)
class Block:
    """A fenced block of code; `line` is where its fence opens."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


@dataclass(frozen=True)
class Command:
    """One simple command of a shell block."""

    block: Block
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.block} {' '.join(self.words)}"


def blocks(*languages: str) -> list[Block]:
    """Return the code blocks of all pages in these languages, or all blocks."""
    found = [block for page in PAGES for block in _blocks_of(page)]
    return [block for block in found if not languages or block.language in languages]


def commands() -> list[Command]:
    """Return the shell commands of all pages: every line of bash blocks, lines after `$` of console blocks."""
    found = []
    for block in blocks("bash", "console"):
        lines = block.text.replace("\\\n", " ").splitlines()
        if block.language == "console":
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        found += [Command(block, words) for line in lines for words in _simple_commands(line)]
    return found


def _blocks_of(page: Path) -> Iterator[Block]:
    lines = iter(enumerate(page.read_text().splitlines(), start=1))
    for number, line in lines:
        if line.startswith("```"):
            body = []
            for _, inner in lines:
                if inner.startswith("```"):
                    break
                body.append(inner)
            yield Block(page, number, line.removeprefix("```"), "\n".join(body) + "\n")


def _simple_commands(line: str) -> Iterator[tuple[str, ...]]:
    """Split a line of a shell at `;`, `&&` and `|`, and leave its comment out."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if re.fullmatch(r"[;&|]+", word):
            if words:
                yield tuple(words)
            words = []
        else:
            words.append(word)
