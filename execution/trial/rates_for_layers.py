"""Rates of this machine's CPU, measured where measuring is expected and kept for layers, which never measure."""

from __future__ import annotations

import logging
from pathlib import Path

from ...kernels.steps import CALL_S, Rates
from ...kernels.tuned.kept_rates import file_here, keep, kept_rates
from ...results.timing.cpu_rates import cpu_rates
from ...results.timing.roofline import MachineRates
from .across_ranks import ranks

_log = logging.getLogger(__name__)


def keep_rates(machine: MachineRates, *, again: bool = False) -> Path | None:
    """Measure the CPU of ``machine`` and keep its rates, unless they are kept or with ``again``; return their file.

    It returns None where nothing is kept: rates are turned off, or several ranks share the cores, or others used the
    cores meanwhile, or the file cannot be written; the last two are logged.
    """
    if machine.device.type != "cpu" or ranks() > 1 or file_here() is None:
        return None
    if not again and kept_rates() is not None:
        return file_here()
    found = cpu_rates(machine)
    if found.disturbed:
        _log.warning("the rates of this machine are not kept: others used its cores whenever they were measured")
        return None
    try:
        return keep(
            Rates(
                flops_per_s=max(found.products.values()),
                bytes_per_s=found.bytes_per_s,
                call_s=CALL_S["cpu"],
                products=found.products,
                pointwise=found.pointwise,
                fresh_bytes_per_s=found.fresh_bytes_per_s,
            )
        )
    except OSError as error:
        _log.warning("the rates of this machine are not kept: %s", error)
        return None
