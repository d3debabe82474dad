"""Generations for the two pods of `kernel_pods`: the server admits the client to any port, or nobody.

In:   whether it admits, and the cookie of the rule that does
Out:  Generation
Pure.
"""

from __future__ import annotations

from typing import Final

from netpolicy.rules import Direction
from nodeagent.plan.generation import (
    EndpointTable,
    Generation,
    PolicyEntry,
    PolicyKey,
    TableFlag,
    Verdict,
)
from tests.support.kernel_pods import CLIENT, SERVER

CLIENT_ID, SERVER_ID = 1, 2
ALLOWED, REFUSED = 31, 32
_CLIENT_CLASS: Final = 1


def server_admits(*, everyone: bool, cookie: int = ALLOWED) -> Generation:
    """The client is open. `everyone`: any pod whose class is the client's, over any protocol."""
    key = PolicyKey(SERVER_ID, _CLIENT_CLASS, int(Direction.INGRESS), 0, 0)
    return Generation(
        policy={key: PolicyEntry(Verdict.ALLOW, cookie)} if everyone else {},
        class_of={2: 3, CLIENT: _CLIENT_CLASS, SERVER: 2},
        port_class_of={},
        endpoint_tables={
            CLIENT_ID: EndpointTable(CLIENT_ID, TableFlag(0)),
            SERVER_ID: EndpointTable(SERVER_ID, TableFlag.DENY_INGRESS, ingress_cookie=REFUSED),
        },
        attributions={},
        digest=f"{cookie:062x}{int(everyone):02x}",
    )
