"""Triton's interpreter without work whose results it does not use: more than half of the time of our kernels in it.

Every call of one jitted function by another looks through all of `triton.language` for what to replace, which the
launch has replaced already. Every sum and product of integers is computed again in 64 bits, for an assertion that is
made only with ``debug``, which the interpreter does not set.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from inspect import ismodule
from typing import Any

from triton import language as tl
from triton.runtime import interpreter


def install() -> None:
    """Let the interpreter search a module of the language only while it is not replaced, and check no overflow."""
    builder = interpreter.interpreter_builder
    assert not builder.options.debug, "the assertions would be made"
    builder.options = dataclasses.replace(builder.options, sanitize_overflow=False)
    whole = interpreter._patch_lang

    def quick(function: Callable[..., Any]) -> Any:
        languages = [m for m in function.__globals__.values() if ismodule(m) and m in (tl, tl.core)]
        return interpreter._LangPatchScope() if languages and all(map(replaced, languages)) else whole(function)

    interpreter._patch_lang = quick


def replaced(language: Any) -> bool:
    """Return whether the functions of the module and the operators of its tensors are the interpreter's."""
    return not (tl.core.is_builtin(language.load) or tl.core.is_builtin(language.tensor.__add__))
