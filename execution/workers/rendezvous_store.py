"""Stores of torch.distributed, in which ranks find each other and processes leave messages for each other.

Apart from rendezvous.py, because it imports torch, which the process that only waits for records does without.
"""

from __future__ import annotations

import pickle
from typing import cast

from torch.distributed import FileStore, PrefixStore, Store, TCPStore  # type: ignore[attr-defined]  # it has no __all__

from .rendezvous import FileRendezvous, Rendezvous

__all__ = ["PrefixStore", "Store", "open_store", "put", "take"]


def open_store(rendezvous: Rendezvous) -> Store:
    """Return a client of the rendezvous' store; threads that wait in the store need one each."""
    if isinstance(rendezvous, FileRendezvous):
        return FileStore(str(rendezvous.path))
    client = TCPStore(rendezvous.host, rendezvous.port, is_master=False, wait_for_workers=False)
    return PrefixStore(rendezvous.prefix, client)


def put(store: Store, key: str, message: object) -> None:
    """Leave a message, which may not be None."""
    store.set(key, pickle.dumps(message))  # type: ignore[arg-type]  # bytes are accepted as well


def take(store: Store, key: str) -> object | None:
    """Return the message under ``key``; None where there is none yet."""
    if not store.check([key]):
        return None
    # As trustworthy as torchrun's store, which torchrun itself unpickles from.
    return cast(object, pickle.loads(store.get(key)))  # noqa: S301
