"""Packages of other projects: their versions, and how to load one that may be missing or broken."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import metadata
from typing import TypeVar

from .errors import UserError, in_one_line

T = TypeVar("T")


class Unusable(UserError, ImportError):
    """A package that is missing or broken; the message says which, why, and what to do about it."""


def use(package: str, load: Callable[[], T], *, remedy: str) -> T:
    """Return what ``load`` makes of ``package``, a module's name.

    Warnings of that package are not shown, and what it prints goes to stderr: a command may be printing JSON.

    Raises:
        Unusable: whatever ``load`` raised but KeyboardInterrupt, which passes. An installed package may fail with any
            error: for a library that it was not built for, a driver that is too old, a name that another version has,
            or the panic of an extension in Rust, which is no Exception.
    """
    try:
        with warnings.catch_warnings(), redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore")
            return load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if isinstance(error, ModuleNotFoundError) and error.name == package.partition(".")[0]:
            raise Unusable(f"{package} is not installed; {remedy}", name=package) from error
        why = f"{package} is installed and cannot be imported ({in_one_line(error)})"
        raise Unusable(f"{why}; {remedy}", name=package) from error


def is_installed(package: str) -> bool:
    """Return whether a package of that name is installed. It is not imported, so it may be broken all the same."""
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # it is imported, and its spec does not say from where
        return True


def installed_version(package: str) -> str | None:
    """Return the version of a package as its metadata has it, or None when it is not installed, or only in part."""
    try:
        return metadata.version(package)
    except Exception:  # noqa: BLE001  # of metadata that are damaged, besides those that are missing
        return None


@dataclass(frozen=True)
class Release:
    """The release of another project from whose sources an adapter was written.

    ``distribution`` is the name under which it is installed, ``version`` that of the release, ``source`` the place
    where its interface was read, as a path of its repository.
    """

    distribution: str
    version: str
    source: str

    def beside_installed(self) -> str:
        """Return the release in words, and which version is installed here."""
        found = installed_version(self.distribution)
        return f"{self.distribution} {self.version} ({self.source}), {f'{found} is' if found else 'none'} installed"
