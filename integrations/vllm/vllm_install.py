"""Installation of moebench's experts in a running vLLM, where its interface is the one that was read."""

from __future__ import annotations

import functools
from typing import Any

from ...common.errors import UserError
from ...common.names import unknown
from ...common.packages import installed_version
from ...kernels.catalog import KERNELS
from .vllm_experts import experts_class
from .vllm_interface import READ, VllmParts, differences

DEFAULT = "triton_scatter"
"""The kernel that runs where the variable says 1: the first on GPUs by `Kernel.preference`."""


class AnotherInterface(UserError, RuntimeError):
    """A vLLM whose experts are called otherwise than those that were read."""


def install(wanted: str) -> str:
    """Put experts of moebench before vLLM's Triton experts, once in a process, and return a line for the log.

    They are asked first wherever vLLM would run its Triton experts. ``wanted`` is 1, or the name of a kernel.

    Raises:
        UnknownName: when no kernel has that name.
        AnotherInterface: when the installed vLLM has another interface than the one that was read.
    """
    dispatch = DEFAULT if wanted == "1" else wanted
    if dispatch not in KERNELS.names():
        raise unknown("kernel", dispatch, ["1", *KERNELS.names()])
    try:
        parts = VllmParts.of_installed()
        found = list(differences(parts))
    except (ImportError, AttributeError) as error:
        found = [str(error)]
    version = installed_version("vllm") or "of an unknown version"
    if found:
        raise AnotherInterface(f"vLLM {version} is not as {READ}, for which this was written: {'; '.join(found)}")
    theirs: Any = parts.oracle.backend_to_kernel_cls
    if not hasattr(theirs, "before_moebench"):
        parts.oracle.backend_to_kernel_cls = _with_ours(theirs, experts_class(parts, dispatch), parts.triton_backend)
    return f"moebench's {dispatch} runs in vLLM {version} where its Triton experts would; a line says where it does not"


def _with_ours(theirs: Any, ours: type[Any], triton: Any) -> Any:
    """Return vLLM's list of experts by backend with ours before its Triton experts."""

    @functools.wraps(theirs)
    def backend_to_kernel_cls(backend: Any) -> list[type[Any]]:
        return [*([ours] if backend == triton else []), *theirs(backend)]

    backend_to_kernel_cls.before_moebench = theirs  # type: ignore[attr-defined]  # says that it was done
    return backend_to_kernel_cls
