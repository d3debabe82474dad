"""Limits on how many requests pass, as buckets of Envoy's local rate limit.

In:   forms of request
Out:  parts of Envoy's configuration
Pure.

Holds always:
1. A form has one bucket, whichever route its requests take; forms without a limit have none.
2. New rules start with full buckets: Envoy keeps none over a change of its routes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from netpolicy.rules import RateLimit
from nodeagent.envoy.document import Json, extension, typed
from nodeagent.envoy.forms import RequestForm

FILTER: Final = "envoy.filters.http.local_ratelimit"
STATISTICS: Final = "tidegate"

_MESSAGE: Final = "extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
_KEY: Final = "form"
_ALWAYS: Final[Json] = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
_NEVER_EMPTY: Final[Json] = {
    "max_tokens": (1 << 32) - 1,
    "tokens_per_fill": (1 << 32) - 1,
    "fill_interval": "1s",
}


def limits_filter() -> Json:
    """An HTTP filter that is passed by until a route configuration sets limits: for forms, so none that is
    refused is counted."""
    return {**extension(FILTER, _MESSAGE, stat_prefix=STATISTICS), "disabled": True}


def limits_of_routes(forms: Iterable[RequestForm]) -> Json:
    """An entry of `typed_per_filter_config`: a bucket for each form that has a limit."""
    buckets = [
        {
            "entries": [{"key": _KEY, "value": form.name}],
            "token_bucket": _bucket(form.http.rate_limit),
        }
        for form in forms
        if form.http.rate_limit is not None
    ]
    if not buckets:
        return {}
    limit = typed(
        _MESSAGE,
        stat_prefix=STATISTICS,
        descriptors=buckets,
        token_bucket=_NEVER_EMPTY,
        filter_enabled=_ALWAYS,
        filter_enforced=_ALWAYS,
        rate_limited_as_resource_exhausted=True,
    )
    return {FILTER: limit}


def counted_as(form: RequestForm) -> Json:
    """A part of a route: its requests take from the form's bucket."""
    if form.http.rate_limit is None:
        return {}
    action = {"generic_key": {"descriptor_key": _KEY, "descriptor_value": form.name}}
    return {"rate_limits": [{"actions": [action]}]}


def _bucket(limit: RateLimit) -> Json:
    return {
        "max_tokens": limit.burst,
        "tokens_per_fill": limit.requests,
        "fill_interval": f"{limit.seconds}s",
    }
