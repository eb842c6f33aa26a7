"""The stores of torch.distributed: where ranks meet, and where processes leave messages for each other."""

from __future__ import annotations

import pickle
from typing import cast

from torch.distributed import FileStore, PrefixStore, Store, TCPStore  # type: ignore[attr-defined]  # it has no __all__

from .rendezvous import FileRendezvous, Rendezvous

__all__ = ["PrefixStore", "Store", "open_store", "put", "take"]


def open_store(meeting: Rendezvous) -> Store:
    """The store of a meeting, as one process sees it; threads that wait in it want one each."""
    if isinstance(meeting, FileRendezvous):
        return FileStore(str(meeting.path))
    return PrefixStore(meeting.prefix, TCPStore(meeting.host, meeting.port, is_master=False, wait_for_workers=False))


def put(store: Store, key: str, message: object) -> None:
    """Leave a message; None is none."""
    store.set(key, pickle.dumps(message))  # type: ignore[arg-type]  # bytes are taken as well


def take(store: Store, key: str) -> object | None:
    """The message that was left under ``key``, if there is one."""
    if not store.check([key]):
        return None
    # To be trusted as far as torchrun's store is: torchrun itself unpickles what it finds there.
    return cast(object, pickle.loads(store.get(key)))  # noqa: S301
