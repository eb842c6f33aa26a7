"""Packages that may be missing or broken: whoever wants one gets it, or one sentence that says why not."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from typing import TypeVar

from ..common.errors import UserError

T = TypeVar("T")


class Unusable(UserError, ImportError):
    """A package that is missing or broken; the message says which, why, and what to do about it."""


def use(package: str, load: Callable[[], T], *, remedy: str) -> T:
    """What ``load`` makes of ``package``, a module's name; what it warns of on the way is not ours to mend.

    Raises:
        Unusable: whatever ``load`` raised. A package may be there and fail with any error: for a library that it was
            not built for, a driver that is too old, a name that another version has.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return load()
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name == package.partition(".")[0]:
            raise Unusable(f"{package} is not installed; {remedy}", name=package) from error
        said = (str(error) or "no message").splitlines()[0]
        why = f"{package} is installed and cannot be imported ({type(error).__name__}: {said})"
        raise Unusable(f"{why}; {remedy}", name=package) from error


def is_installed(package: str) -> bool:
    """Whether there is a package of that name, which is not imported for it; it may yet be broken."""
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # it is imported, and says nothing of where it came from
        return True
