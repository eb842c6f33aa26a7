"""Packages of other projects: their versions, and how to load one that may be missing or broken."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from importlib import metadata
from typing import TypeVar

from .errors import UserError

T = TypeVar("T")


class Unusable(UserError, ImportError):
    """A package that is missing or broken; the message says which, why, and what to do about it."""


def use(package: str, load: Callable[[], T], *, remedy: str) -> T:
    """Return what ``load`` makes of ``package``, a module's name. Warnings of that package are not shown.

    Raises:
        Unusable: whatever ``load`` raised. An installed package may fail with any error: for a library that it was not
            built for, a driver that is too old, a name that another version has.
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
    """Return whether a package of that name is installed. It is not imported, so it may be broken all the same."""
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # it is imported, and its spec does not say from where
        return True


def installed_version(package: str) -> str | None:
    """Return the version of a package as its metadata has it, or None when it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
