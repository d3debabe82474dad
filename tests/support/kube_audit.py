"""What a user asked of an API server, and what its roles let it ask.

In:   the server's audit log; rendered Roles and ClusterRoles
Out:  Request values; what is missing in the roles, and what nobody needs
Pure, but for `asked_by`, which reads the log.

Holds always:
1. What was forbidden is missing, and so is what only somebody else's role let pass.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

CREATED: Final = 201


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Request:
    """One kind of request. An empty `namespace` is the whole cluster, an empty `name` any object."""

    group: str
    resource: str
    verb: str
    namespace: str = ""
    name: str = ""

    def covers(self, asked: Request) -> bool:
        """True if a rule that says this lets that pass."""
        return (
            (self.group, self.resource, self.verb) == (asked.group, asked.resource, asked.verb)
            and self.namespace in ("", asked.namespace)
            and self.name in ("", asked.name)
        )


def asked_by(log: Path, user: str) -> frozenset[Request]:
    """Everything that a user asked for, forbidden or not."""
    events = map(json.loads, log.read_text().splitlines())
    return frozenset(
        request
        for event in events
        if event["user"].get("username") == user and "objectRef" in event
        for request in _requests(event)
    )


def grants_of(roles: Iterable[Mapping[str, Any]]) -> frozenset[Request]:
    """What these roles let pass, one value for each verb of each resource."""
    return frozenset(grant for role in roles for grant in _grants(role))


def missing(asked: Iterable[Request], grants: Iterable[Request]) -> list[Request]:
    """What was asked for and is not granted."""
    granted = tuple(grants)
    return sorted(each for each in asked if not any(grant.covers(each) for grant in granted))


def unused(asked: Iterable[Request], grants: Iterable[Request]) -> list[Request]:
    """What is granted and was not asked for."""
    seen = tuple(asked)
    return sorted(grant for grant in grants if not any(map(grant.covers, seen)))


def _grants(role: Mapping[str, Any]) -> Iterator[Request]:
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    for name in rule.get("resourceNames", [""]):
                        yield Request(
                            group=group,
                            resource=resource,
                            verb=verb,
                            namespace=role["metadata"].get("namespace", ""),
                            name=name,
                        )


def _requests(event: Mapping[str, Any]) -> Iterator[Request]:
    """What had to be allowed; a patch that makes its object needs leave for both."""
    asked = _request(event)
    yield asked
    if asked.verb == "patch" and event.get("responseStatus", {}).get("code") == CREATED:
        yield replace(asked, verb="create")


def _request(event: Mapping[str, Any]) -> Request:
    asked = event["objectRef"]
    part = asked.get("subresource")
    return Request(
        group=asked.get("apiGroup", ""),
        resource=f"{asked['resource']}/{part}" if part else asked["resource"],
        verb=event["verb"],
        namespace=asked.get("namespace", ""),
        name=asked.get("name", ""),
    )
