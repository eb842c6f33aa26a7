"""Triton's interpreter without the search that it repeats for each call of a device function.

Every call of one jitted function by another looks through all of `triton.language` for what to replace, which the
launch has replaced already: a third of the time of our kernels in the interpreter.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import ismodule
from typing import Any

from triton import language as tl
from triton.runtime import interpreter


def install() -> None:
    """Let the interpreter search a module of the language only while it is not replaced."""
    whole = interpreter._patch_lang

    def quick(function: Callable[..., Any]) -> Any:
        languages = [m for m in function.__globals__.values() if ismodule(m) and m in (tl, tl.core)]
        return interpreter._LangPatchScope() if languages and all(map(replaced, languages)) else whole(function)

    interpreter._patch_lang = quick


def replaced(language: Any) -> bool:
    """Return whether the functions of the module and the operators of its tensors are the interpreter's."""
    return not (tl.core.is_builtin(language.load) or tl.core.is_builtin(language.tensor.__add__))
