"""What a user asked of an API server, and what its roles let it ask.

In:   the server's audit log; rendered roles
Out:  Request values
Pure, but for `requests_of`, which reads the log.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FORBIDDEN: Final = 403


@dataclass(frozen=True, slots=True, order=True)
class Request:
    """One kind of request. `namespace` is empty for the whole cluster, `name` for any object."""

    group: str
    resource: str
    verb: str
    namespace: str = ""
    name: str = ""

    def covers(self, asked: Request) -> bool:
        """True if a rule that says this lets that pass."""
        return (self.group, self.resource, self.verb) == (
            asked.group,
            asked.resource,
            asked.verb,
        ) and all(
            not mine or mine == theirs
            for mine, theirs in ((self.namespace, asked.namespace), (self.name, asked.name))
        )


def requests_of(log: Path, user: str) -> tuple[frozenset[Request], frozenset[Request]]:
    """What a user asked for: what was let pass, and what was forbidden."""
    passed, forbidden = set(), set()
    for line in log.read_text().splitlines():
        event = json.loads(line)
        if event["user"].get("username") != user or "objectRef" not in event:
            continue
        code = event.get("responseStatus", {}).get("code")
        (forbidden if code == FORBIDDEN else passed).add(_request(event))
    return frozenset(passed), frozenset(forbidden)


def grants_of(roles: Iterable[dict[str, Any]]) -> frozenset[Request]:
    """What these roles let pass, one value for each verb of each resource."""
    return frozenset(grant for role in roles for grant in _grants(role))


def _grants(role: dict[str, Any]) -> Iterator[Request]:
    namespace = role["metadata"].get("namespace", "")
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    for name in rule.get("resourceNames", [""]):
                        yield Request(group, resource, verb, namespace, name)


def _request(event: dict[str, Any]) -> Request:
    asked = event["objectRef"]
    part = asked.get("subresource")
    return Request(
        group=asked.get("apiGroup", ""),
        resource=f"{asked['resource']}/{part}" if part else asked["resource"],
        verb=event["verb"],
        namespace=asked.get("namespace", ""),
        name=asked.get("name", ""),
    )
