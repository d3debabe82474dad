"""Expressions as Envoy is told them: plain texts as such, all others as expressions."""

from __future__ import annotations

import pytest

from nodeagent.envoy.matchers import HOST, METHOD, PATH, header_expression


@pytest.mark.parametrize(
    ("name", "expression", "told"),
    [
        (METHOD, "GET", {"exact": "GET"}),
        (PATH, "/orders", {"exact": "/orders"}),
        (PATH, r"/shop\.Cart/Add", {"exact": "/shop.Cart/Add"}),
        (PATH, r"/a\-b", {"exact": "/a-b"}),
        (PATH, "/public/.*", {"prefix": "/public/"}),
        (PATH, r"/v1\.0/.*", {"prefix": "/v1.0/"}),
    ],
)
def test_a_plain_text_is_compared_as_such(name: str, expression: str, told: dict[str, str]) -> None:
    assert header_expression(name, expression) == {"name": name, "string_match": told}


@pytest.mark.parametrize(
    ("name", "expression"),
    [
        (METHOD, "GET|POST"),
        (HOST, "shop.*"),
        (HOST, "api.example"),
        (PATH, ".*"),
        (PATH, r"/a\.*"),
        (PATH, r"/a\d"),
        (PATH, r"/a\\"),
        (PATH, "/a.b"),
        (PATH, "/a?"),
        (PATH, "(?i)/a"),
        (PATH, "/a\\"),
        (PATH, "/a.*.*"),
        (PATH, "/ä"),
    ],
)
def test_whatever_may_mean_more_stays_an_expression(name: str, expression: str) -> None:
    told = {"safe_regex": {"regex": expression}}
    assert header_expression(name, expression) == {"name": name, "string_match": told}
