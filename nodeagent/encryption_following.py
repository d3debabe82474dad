"""Have the node encrypt as each plan calls for, and say when it cannot.

In:   EncryptionInputs, with each plan
Out:  calls of Encrypts; StalledError for a publication that this node cannot carry
Shell over Encrypts.

Holds always:
1. Equal inputs are brought about once.
2. A new publication whose encryption cannot be brought about is refused; one that was taken before stays
   in force as policy although its tunnels fail, and they are tried again.
3. Where nothing is to be encrypted, what lies behind addresses is of no account.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog

from netpolicy.encryption import NodeKey
from netpolicy.errors import StalledError, TransientError
from netpolicy.inventory import AddressEntry
from netpolicy.node_encryption import EncryptionMode
from nodeagent.encrypts import EncryptionInputs, Encrypts
from nodeagent.endpoints.local_pods import LocalView
from nodeagent.rollout.channels import Channels, Standing
from nodeagent.rollout.encryption import encrypting

log = structlog.get_logger()

ENCRYPTION_FAILED: Final = "encryption_failed"
REASON: Final = "EncryptionFailed"


class EncryptionFollowing:
    """What was brought about last."""

    def __init__(self, encrypts: Encrypts, *, retry: Callable[[], None]) -> None:
        self._encrypts = encrypts
        self._retry = retry
        self._done: EncryptionInputs | None = None

    async def follow(self, inputs: EncryptionInputs, *, is_new: bool) -> None:
        """Bring it about; `is_new`: asked for by a publication that may still be refused."""
        if inputs == self._done:
            return
        try:
            await self._encrypts.bring_about(inputs)
        except (StalledError, TransientError) as error:
            log.error(ENCRYPTION_FAILED, mode=inputs.encrypting.mode, error=str(error))
            if is_new and inputs.encrypting.mode.is_in_force:
                raise StalledError(f"encryption: {error}", reason=REASON) from error
            self._retry()
            return
        self._done = inputs


def inputs_of(
    channels: Channels | None,
    stand: Standing | None,
    *,
    node: str,
    keys: tuple[NodeKey, ...],
    view: LocalView | None,
    feed: tuple[AddressEntry, ...] | None,
) -> EncryptionInputs:
    """What a node is to bring about by what is known."""
    wanted = encrypting(channels, stand, keys, node=node)
    if wanted.mode is EncryptionMode.OFF or view is None:
        return EncryptionInputs(encrypting=wanted)
    # A pod of this node is here before the feed has heard of it.
    own = tuple(entry for entry in view.entries if entry.node == node)
    return EncryptionInputs(
        encrypting=wanted,
        entries=view.entries if feed is None else (*own, *feed),
        node_addresses=view.node_addresses,
    )
