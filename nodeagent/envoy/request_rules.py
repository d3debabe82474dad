"""Say rules as Envoy judges requests: by routes, with limits, and with what the log is to tell.

In:   the rules of a filter chain; what the secrets hold
Out:  one RouteConfiguration
Pure. What passes is what `netpolicy.l7.request_passes` lets pass, less what goes beyond limits.

Holds always:
1. Nothing passes but what a rule lists: no rules refuse everything.

All that may change while connections live is in here: Envoy takes a new route configuration between two
requests of one connection.
"""

from __future__ import annotations

from collections.abc import Iterable

from netpolicy.rules import NamePattern
from nodeagent.envoy.document import Json, typed
from nodeagent.envoy.forms import PlacedRule, forms_of
from nodeagent.envoy.matchers import names_matcher
from nodeagent.envoy.rate_limits import limits_of_routes
from nodeagent.envoy.routes import routes_of
from nodeagent.envoy.tls import Secrets
from nodeagent.l7.access_log import headers_of_route
from nodeagent.l7.rule_sets import named_headers


def route_configuration(
    name: str,
    rules: Iterable[PlacedRule],
    *,
    digest: str,
    cluster: str,
    secrets: Secrets,
    told_headers: frozenset[str] = frozenset(),
) -> Json:
    """The rules of one filter chain, which are of the rule set with this digest.

    The log tells of the headers that they look at, and of `told_headers`.
    """
    placed = tuple(rules)
    forms = forms_of(placed)
    looked_at = named_headers(one.rule for one in placed) | told_headers
    host = {
        "name": "all",
        "domains": ["*"],
        "routes": routes_of(forms, digest=digest, cluster=cluster, secrets=secrets),
        "typed_per_filter_config": {
            **limits_of_routes(forms),
            **(headers_of_route(looked_at) if looked_at else {}),
        },
    }
    return typed("config.route.v3.RouteConfiguration", name=name, virtual_hosts=[host])


def server_name_permission(names: Iterable[NamePattern]) -> Json:
    """A TLS connection asks for one of the names."""
    return {"requested_server_name": names_matcher(names)}
