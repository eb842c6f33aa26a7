"""Plug-in of vLLM: its entry point of the group ``vllm.general_plugins``, which vLLM calls in every process.

It does nothing unless ``MOEBENCH_VLLM`` is set. vLLM does not catch what an entry point raises, and nothing here may
stop an engine: whatever goes wrong becomes one line of the log, and vLLM's own experts run.
"""

from __future__ import annotations

import logging
import os

VARIABLE = "MOEBENCH_VLLM"
OFF = ("", "0")
LOG = logging.getLogger("vllm.moebench")  # vLLM shows what loggers below its own say


def register() -> None:
    """Put moebench's experts before vLLM's Triton experts where ``MOEBENCH_VLLM`` asks for it.

    Its value is 1, or the name of one kernel of moebench. 0 and the empty text are the same as no variable.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted in OFF:
        return
    try:
        from .vllm_install import install  # noqa: PLC0415  # imports torch, which costs those seconds who do not want it

        LOG.info("%s", install(wanted))
    except Exception as error:  # noqa: BLE001  # an engine must not die of a plug-in
        LOG.warning("moebench is off, and vLLM's own experts run: %s", error)
