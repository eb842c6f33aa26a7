"""Survey of the routed experts in the installed transformers: how "moebench" takes each class of them, or why not."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import tiny_models
import torch
from torch import nn

from moebench.common.packages import installed_version
from moebench.integrations.transformers.replaced_forwards import OwnForward
from moebench.integrations.transformers.taken_experts import EXPERTS, RefusedExperts, experts_of, layout_of
from moebench.kernels.module.hugging_face import ExpertsLayout

HEADINGS = ("family", "experts", "activation", "weights")
REFUSED = "refused"


def table() -> str:
    """Return the table as Markdown, below the version of transformers that it is of."""
    rows = [row for family in tiny_models.routed_experts() for row in _rows(family)]
    lines = (HEADINGS, ["---"] * len(HEADINGS), *rows)
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    taken = sum(REFUSED not in row[-1] for row in rows)
    return (
        f"transformers {installed_version('transformers')} has {len(rows)} classes of routed experts, of which {taken} "
        f"are taken.\n\n{text}"
    )


def listed(page: str) -> dict[str, dict[str, str]]:
    """Return the families of the table in a page, each with its classes and how their weights are taken."""
    found: dict[str, dict[str, str]] = {}
    for line in page.splitlines():
        if line.startswith("| `"):
            family, kind, _, weights = (cell.strip(" `") for cell in line.strip("|").split(" | "))
            found.setdefault(family, {})[kind] = weights
    return found


def _rows(family: str) -> Iterator[tuple[str, ...]]:
    for kind, experts in sorted(_classes(family).items()):
        try:
            layout = layout_of(experts)
        except RefusedExperts as error:
            yield f"`{family}`", f"`{kind}`", "", f"{REFUSED}: {error}".replace("|", "\\|")
        else:
            yield f"`{family}`", f"`{kind}`", f"`{layout.activation}`", _how(layout)


def _how(layout: ExpertsLayout | OwnForward) -> str:
    if isinstance(layout, OwnForward):
        return f"{layout.how}{', biases' if layout.bias else ''}"
    if layout.in_turn:
        how = "up projection copied, down projection a view"
    else:
        how = "views" if layout.transposed else "shared"
    return f"{how}{', biases' if layout.bias else ''}{'; the norm runs after moebench' if layout.normed else ''}"


def _classes(family: str) -> dict[str, nn.Module]:
    """Return a module of every class of a family, without values."""
    modeling = importlib.import_module(f"transformers.models.{family}.modeling_{family}")
    config = tiny_models.tiny_config(family)
    with torch.device("meta"):
        model = tiny_models.model_class(family)(config)
        found = {type(experts).__name__: experts for experts in experts_of(model)}
        for name, kind in vars(modeling).items():
            if EXPERTS.search(name) and name not in found and getattr(kind, "__module__", "") == modeling.__name__:
                found[name] = kind(config.get_text_config())
    return found
