"""Ranks talk through the interface that they are given, and by default through none that others can reach."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from moebench.execution.workers.rendezvous import LOOPBACK, FileRendezvous, interface_towards, talk_through

NAMES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that it is restored afterwards
        monkeypatch.delenv(name)


def test_both_backends_are_configured_and_what_the_user_has_set_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "ib0")
    talk_through("eth1")
    assert [os.environ[name] for name in NAMES] == ["eth1", "ib0"]


def test_no_backend_is_configured_where_no_interface_is_known() -> None:
    talk_through(None)
    assert not any(name in os.environ for name in NAMES)


def test_one_machine_talks_to_itself(tmp_path: Path) -> None:
    assert FileRendezvous(tmp_path).interface == LOOPBACK
    assert interface_towards("127.0.0.1", 29500) == LOOPBACK
    assert LOOPBACK in {name for _, name in socket.if_nameindex()}


def test_where_nothing_is_reached_no_interface_is_named() -> None:
    assert interface_towards("no.such.host.invalid", 29500) is None
