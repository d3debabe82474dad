"""Our regular expressions are RE2's: the same syntax, the same texts, in bounded time."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netpolicy.regex import BadExpression, compile_expression

_pieces = st.sampled_from(
    ("a", "b", "c", "(", ")", "(?:", "|", "*", "+", "?", "[ab]", "[^a]", ".", r"\w", r"\D", "{2}", "{0,2}")
)  # fmt: skip
_texts = st.text(alphabet="abc1\n", max_size=5)


@given(pieces=st.lists(_pieces, max_size=8), text=_texts)
def test_the_same_texts_match_as_in_python_where_both_know_the_syntax(pieces, text):
    expression = "".join(pieces)
    try:
        known = re.compile(expression, re.ASCII)
        ours = compile_expression(expression)
    except (re.error, BadExpression):
        return
    assert ours.matches(text) == (known.fullmatch(text) is not None)


@given(text=st.text(max_size=40))
def test_no_text_does_more_than_be_refused(text):
    with suppress(BadExpression):
        compile_expression(text).matches(text)


@pytest.mark.parametrize(
    "expression",
    [
        "(GET", "GET)", "a**", "a{3,2}", "*a", "(?=x)", "(?!x)", "(?<=x)", r"(a)\1", "[a-", "[z-a]",
        "x{1001}", "((a{100}){100}){100}", r"[a-\d]", r"\x{110000}", "(?#x)", r"\q", "[[:foo:]]",
        "(?P<a", "(?P=a)", r"\Z", "x" * 5000,
    ],
)  # fmt: skip
def test_what_re2_refuses_is_refused(expression):
    with pytest.raises(BadExpression):
        compile_expression(expression)


@pytest.mark.parametrize(
    ("expression", "text", "matches"),
    [
        ("GET|POST", "POST", True), ("GET", "GETX", False), ("(?i)get", "GeT", True),
        ("/users/[0-9]+", "/users/12", True), ("/users/[0-9]+", "/users/١", False),
        (r"\d", "١", False), (r"\Qa.b\E", "a.b", True), (r"\Qa.b\E", "axb", False),
        ("(?P<x>a)b", "ab", True), ("(?<x>a)b", "ab", True), ("a{,3}", "a{,3}", True),
        ("[]a]+", "]a", True), ("[[:alpha:]]", "q", True), (".", "\n", False), ("(?s).", "\n", True),
        ("(?m)a$\n^b", "a\nb", True), (r"\x41\x{42}\103", "ABC", True), ("", "", True),
        ("(?i)[k]", "K", True), (r"a\b.*", "a b", True), (r"a\b.*", "ab", False),
    ],
)  # fmt: skip
def test_an_expression_matches_whole_texts(expression, text, matches):
    assert compile_expression(expression).matches(text) is matches


def test_an_expression_made_to_explode_does_not():
    assert not compile_expression("(a*)*(a|aa)*b").matches("a" * 2000)
