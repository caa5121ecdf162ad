"""What ``regard bench`` measures."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from regard.lazy import Registry

if TYPE_CHECKING:
    from regard.bench.peers import Case, Implementation

PEERS: Registry[Callable[[Case], Implementation | str]] = Registry(
    {
        "sdpa": "regard.bench.peers.sdpa",
        "flex": "regard.bench.peers.flex",
        "local-attention": "regard.bench.peers.local_attention",
    }
)
"""Other libraries' attention by name: an implementation, or why it cannot compute a case."""
