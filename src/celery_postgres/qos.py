"""One channel's prefetch window, and the deliveries in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .messages import Claimed

#: A window of 0 means no limit in AMQP. Here it bounds what is claimed ahead of the callbacks.
UNLIMITED = 500


class QoS:
    """What was delivered and is not settled, by delivery tag, oldest first."""

    def __init__(self) -> None:
        self.prefetch_count = 0
        self._unacked: dict[int, Claimed] = {}
        self._last_tag = 0

    def size(self) -> int:
        """How many may be claimed and unsettled at once."""
        return self.prefetch_count or UNLIMITED

    def window(self) -> int:
        """How many more may be claimed, not counting those that have arrived and wait for their callback."""
        if not self.prefetch_count:
            return UNLIMITED
        return self.prefetch_count - len(self._unacked)

    def next_tag(self) -> int:
        self._last_tag += 1
        return self._last_tag

    def deliver(self, claimed: Claimed) -> int:
        """Enter a delivery and return its tag."""
        tag = self.next_tag()
        self._unacked[tag] = claimed
        return tag

    def settle(self, tag: int, *, multiple: bool = False) -> list[Claimed]:
        """Remove a delivery, or all up to it (0: all); empty for a tag that is settled or unknown."""
        if not multiple:
            claimed = self._unacked.pop(tag, None)
            return [] if claimed is None else [claimed]
        tags = [known for known in list(self._unacked) if tag in (0, known) or known < tag]
        found = [self._unacked.pop(known, None) for known in tags]
        return [claimed for claimed in found if claimed is not None]  # a thread may settle one meanwhile

    def __len__(self) -> int:
        return len(self._unacked)
