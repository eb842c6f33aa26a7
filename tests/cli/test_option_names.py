"""Options of all verbs: one name for one thing, and one thing for one name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from moebench.cli.main import app
from moebench.cli.problem_options import OLD_SPELLINGS

MEANINGS = {
    "--address": "cluster",
    "--block": "lock",
    "--cache": "caches",
    "--capacity": "apacity",
    "--capacity-rule": "apacity",
    "--config": "config",
    "--device": "evice",
    "--drop": "full expert",
    "--dtype": "lement type",
    "--engine": "engine",
    "--executor": "Workers",
    "--floor": "slowdown",
    "--json": "JSON",
    "--kernel": "kernel",
    "--load": "oad",
    "--machine": "machine",
    "--mode": "training",
    "--model": "odel",
    "--output": "ile|older",
    "--price": "device-hour",
    "--ranks": "anks|processes",
    "--router": "outer",
    "--shape": "shape",
    "--slots": "same time",
    "--strict": "could not be judged",
    "--target": "GPU",
    "--tokens": "okens|atch",
    "--width": "D",
}
"""A word of the help of each option that several verbs have, in every verb; | parts alternatives."""


def options() -> Iterator[tuple[str, Any]]:
    """Yield every option of every verb with the name of the verb."""

    def of(command: Any, name: str) -> Iterator[tuple[str, Any]]:
        for option in command.params:
            if option.opts[0].startswith("-"):
                yield name, option
        for verb, below in getattr(command, "commands", {}).items():
            yield from of(below, f"{name} {verb}".strip())

    return of(get_command(app), "")


def long_name(option: Any) -> str:
    return next(str(name) for name in option.opts if name.startswith("--"))


def test_an_option_of_several_verbs_means_the_same_in_each() -> None:
    found: defaultdict[str, list[tuple[str, Any]]] = defaultdict(list)
    for verb, option in options():
        found[long_name(option)].append((verb, option))
    for name, uses in found.items():
        if len(uses) > 1:
            assert name in MEANINGS, f"{name} is in {[verb for verb, _ in uses]}: say what it means everywhere"
            for verb, option in uses:
                assert any(word in option.help for word in MEANINGS[name].split("|")), (verb, name, option.help)
            assert len({bool(option.is_flag) for _, option in uses}) == 1, name


def test_a_letter_stands_for_one_option_which_has_it_in_every_verb() -> None:
    letters: defaultdict[str, set[str]] = defaultdict(set)
    for _, option in options():
        for short in option.opts:
            if not short.startswith("--"):
                letters[short].add(long_name(option).removesuffix("-per-rank"))
    assert {letter: names for letter, names in letters.items() if len(names) > 1} == {}
    lettered = {name for names in letters.values() for name in names}
    assert [long_name(one) for _, one in options() if long_name(one) in lettered and len(one.opts) == 1] == []


def test_every_option_has_a_help() -> None:
    assert [(verb, option.name) for verb, option in options() if not option.help] == []


def test_a_further_spelling_stands_for_one_option_in_every_verb() -> None:
    spellings: defaultdict[str, set[str]] = defaultdict(set)
    for _, option in options():
        for name in (*option.opts, *option.secondary_opts):
            if name.startswith("--"):
                spellings[name].add(long_name(option))
    assert {name: meant for name, meant in spellings.items() if len(meant) > 1} == {}
    old = {f"--{word}": f"--{now}" for word, now in OLD_SPELLINGS.items()}
    assert [word for word, now in old.items() if word in spellings or now not in spellings] == []
