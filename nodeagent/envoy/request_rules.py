"""Say rules as Envoy judges requests: policies of its RBAC filter, limits, and routes that mend requests.

In:   the rules of a filter chain; what the secrets hold
Out:  one RouteConfiguration
Pure. What passes is what `netpolicy.l7.request_passes` lets pass, less what goes beyond limits.

Holds always:
1. Nothing passes but what a policy of the RBAC filter lists: no rules refuse everything.

All that may change while connections live is in here: Envoy takes a new route configuration between two
requests of one connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from netpolicy.rules import NamePattern
from nodeagent.envoy.document import Json, typed
from nodeagent.envoy.forms import PlacedRule, RequestForm, forms_of
from nodeagent.envoy.matchers import matchers_of, names_matcher
from nodeagent.envoy.rate_limits import limits_of_routes
from nodeagent.envoy.routes import KEPT_PROTO, routes_of
from nodeagent.envoy.tls import Secrets
from nodeagent.l7.access_log import RBAC_FILTER, headers_of_route
from nodeagent.l7.rule_sets import named_headers

_ANY: Final[Json] = {"any": True}


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
        "request_headers_to_remove": [KEPT_PROTO],
        "typed_per_filter_config": {
            RBAC_FILTER: _judgement(forms, secrets),
            **limits_of_routes(forms),
            **(headers_of_route(looked_at) if looked_at else {}),
        },
    }
    return typed("config.route.v3.RouteConfiguration", name=name, virtual_hosts=[host])


def server_name_permission(names: Iterable[NamePattern]) -> Json:
    """A TLS connection asks for one of the names."""
    return {"requested_server_name": names_matcher(names)}


def _judgement(forms: Iterable[RequestForm], secrets: Secrets) -> Json:
    policies = {
        name: {"permissions": [permission], "principals": [_ANY]}
        for form in forms
        for name, permission in _permission(form, secrets)
    }
    rules = {"action": "ALLOW", "policies": policies}
    return typed("extensions.filters.http.rbac.v3.RBACPerRoute", rbac={"rules": rules})


def _permission(form: RequestForm, secrets: Secrets) -> Iterator[tuple[str, Json]]:
    """What lets requests of a form pass, under its name; nothing if no request can have the form."""
    matchers = matchers_of(form.http, secrets)
    if matchers is None:
        return
    asked = [] if form.server_names is None else [server_name_permission(form.server_names)]
    asked += [{"header": matcher} for matcher in matchers]
    yield form.name, {"and_rules": {"rules": asked}} if asked else _ANY
