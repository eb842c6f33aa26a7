"""The page of an advice: one HTML file without scripts or outside resources, or the same as Markdown."""

from __future__ import annotations

from pathlib import Path

from ...common.files import write_whole
from ...results.record.advice import Advice
from ...results.record.store import StoreError
from ..numbers import plain
from ..page import environment
from ..tables.text_table import escaped, markdown
from ..web.content_policy import policy, stylesheet
from . import advice_words as words


def write_page(advice: Advice, path: Path) -> None:
    """Write the page of an advice: Markdown where the file's name ends with .md, else HTML.

    Raises:
        StoreError: when the file cannot be written.
    """
    try:
        write_whole(path, as_markdown(advice) if path.suffix == ".md" else as_html(advice))
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}; give an --output that can be written") from error


def as_html(advice: Advice) -> str:
    """Return the page. Its policy allows the one style that it has and nothing else."""
    engine = environment()
    style = stylesheet() + engine.get_template("advice.css").render()
    return engine.get_template("advice.html.j2").render(
        advice=advice, words=words, plain=plain, style=style, policy=policy(style)
    )


def as_markdown(advice: Advice) -> str:
    """Return the page as Markdown, which shows text of records and does nothing else with it."""
    lines = [f"# {escaped(words.title(advice))}", "", escaped(words.setting(advice)), ""]
    lines += [f"- {escaped(sentence)}" for sentence in words.mix_words(advice)]
    for phase in advice.phases:
        lines += ["", f"## {escaped(words.phase_answer(phase))}", ""]
        lines += [f"- {escaped(sentence)}" for sentence in words.details(phase)]
        if phase.options:
            rows = [words.option_cells(one, phase.options[0], advice) for one in phase.options]
            lines += ["", _table(words.option_headings(advice), rows, ("dispatch", "source"))]
    headings = words.memory_headings(advice)
    lines += ["", "## Memory of the experts", "", escaped(words.size_words(advice)), ""]
    lines += [_table(headings, words.memory_rows(advice), ("format", headings[-1])), ""]
    lines += [f"- {escaped(sentence)}" for sentence in words.explanations(advice)]
    if advice.command:
        lines += ["", "This measures side by side what was not:", "", "```bash", plain(advice.command), "```"]
    return "\n".join(lines) + "\n"


def _table(headings: list[str], rows: list[list[str]], left: tuple[str, ...]) -> str:
    titles = [" ".join(heading.split()) for heading in headings]
    return markdown(titles, [list(map(escaped, row)) for row in rows], words=left)
