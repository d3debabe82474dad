"""Are the values of rules on requests well formed? Names, expressions, headers, services, Kafka's words.

In:   one value of a document, already of the right type
Out:  what is wrong with it; nothing if it is well formed
Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from netpolicy.dns_names import is_name, is_pattern, is_server_name
from netpolicy.regex import BadExpression, compile_expression
from reconciler.objects.kafka_text import API_KEYS, ROLES, api_key
from reconciler.objects.rate_text import span_seconds
from reconciler.objects.schema.value_fault import ValueFault, nearest, shown

MAX_LOG_VALUE: Final = 32
MAX_RATE: Final = 1_000_000
MAX_RATE_SECONDS: Final = 3600

_HEADER_NAME: Final = re.compile(r":?[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_LETTERS: Final = re.compile(r"[A-Za-z]+")
_NO_PATH: Final = re.compile(r"\^?[A-Za-z0-9](?![?*{])")
"""A letter or digit that must be there, where paths have their first slash."""
_KAFKA_WORD: Final = re.compile(r"[-._A-Za-z0-9]{1,255}")
_GRPC_SERVICE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_GRPC_METHOD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_L7_KINDS: Final = ("http", "grpc", "dns", "kafka", "l7")


def one_of(value: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[ValueFault]:
    """Exactly one of the fields must be given."""
    given = [name for name in names if name in value]
    listed = " or ".join(f'"{name}"' for name in names)
    if not given:
        yield ValueFault("TG103", f"neither {listed.replace(' or ', ' nor ')} is given")
    for extra in given[1:]:
        yield ValueFault(
            "TG125", f'"{extra}" stands beside "{given[0]}"', path=(extra,), on_key=True
        )


def _expression(value: str) -> Iterator[ValueFault]:
    try:
        compile_expression(value)
    except BadExpression as error:
        fix = 'write ".*" to mean anything' if value in ("*", "**") else ""
        yield ValueFault("TG122", f"{shown(value)} is not a regular expression: {error}", fix)
        return
    if value.endswith("/*"):
        yield ValueFault(
            "TG342", f"{shown(value)} matches slashes at its end", f'write "{value[:-1]}.*"'
        )


def _http_method(value: str) -> Iterator[ValueFault]:
    yield from _expression(value)
    words = value.split("|")
    if all(map(_LETTERS.fullmatch, words)) and not value.isupper():
        fix = f"write {shown(value.upper())}"
        yield ValueFault("TG345", f"{shown(value)} is not how clients write methods", fix)


def _http_path(value: str) -> Iterator[ValueFault]:
    yield from _expression(value)
    if _NO_PATH.match(value) and "|" not in value:
        fix = f"write {shown(f'/{value}')}"
        yield ValueFault("TG345", f"no path begins as {shown(value)} does", fix)


def _http_host(value: str) -> Iterator[ValueFault]:
    yield from _expression(value)
    if "/" in value and not set("[|") & set(value):
        yield ValueFault(
            "TG345", f"{shown(value)} is no host: it has a slash", "write the host alone"
        )


def _name_choice(value: Mapping[str, Any]) -> Iterator[ValueFault]:
    yield from one_of(value, ("matchName", "matchPattern"))


def _dns_name(value: str) -> Iterator[ValueFault]:
    if is_name(value):
        return
    fix = f"write matchPattern: {shown(value)}" if "*" in value and is_pattern(value) else ""
    yield ValueFault("TG123", f"{shown(value)} is not a DNS name", fix)


def _dns_pattern(value: str) -> Iterator[ValueFault]:
    if not is_pattern(value):
        yield ValueFault("TG123", f"{shown(value)} is not a pattern of DNS names")


def _server_names(value: Sequence[object]) -> Iterator[ValueFault]:
    if not value:
        yield ValueFault("TG109", "no server name is given", "name one, or remove the field")


def _server_name(value: str) -> Iterator[ValueFault]:
    if not is_server_name(value):
        yield ValueFault(
            "TG123",
            f"{shown(value)} is not a server name",
            'write a whole name, or one that begins with "*." or "**."' if "*" in value else "",
        )


def _header_name(value: str) -> Iterator[ValueFault]:
    if not _HEADER_NAME.fullmatch(value):
        yield ValueFault("TG126", f"{shown(value)} is not the name of a header")


def _header(value: Any) -> Iterator[ValueFault]:
    """`"X-Name: value"`, or in older spelling {X-Name: value}."""
    if isinstance(value, str):
        name = value.partition(" ")[0].removesuffix(":")
        if ":" in name.removeprefix(":"):
            spaced = value.replace(":", ": ", 1)
            yield ValueFault("TG126", f"{shown(value)} is not a header", f"write {shown(spaced)}")
        else:
            yield from _header_name(name)
        return
    if len(value) != 1:
        yield ValueFault("TG126", "a header is one name and its value", 'write "X-Name: value"')
        return
    ((name, text),) = value.items()
    if not isinstance(text, str):
        yield ValueFault(
            "TG106", f"{shown(text)} is not text", f"write '{name}: {shown(text)}'", (name,)
        )
        return
    yield from _header_name(name)
    yield ValueFault(
        "TG340", "this header is written as a mapping", f"write {shown(f'{name}: {text}')}"
    )


def _request_count(value: int) -> Iterator[ValueFault]:
    if not 1 <= value <= MAX_RATE:
        yield ValueFault("TG129", f"{value} is no number of requests from 1 to {MAX_RATE:,}")


def _rate_span(value: str) -> Iterator[ValueFault]:
    seconds = span_seconds(value)
    if seconds is None or not 1 <= seconds <= MAX_RATE_SECONDS:
        yield ValueFault("TG129", f"{shown(value)} is no time from 1s to 1h", 'write "1s" or "1m"')


def _request_rules(value: Mapping[str, Any]) -> Iterator[ValueFault]:
    """The kinds of rules exclude each other; an empty list is none."""
    given = [name for name in _L7_KINDS if value.get(name)]
    for extra in given[1:]:
        yield ValueFault(
            "TG125", f'"{extra}" stands beside "{given[0]}"', path=(extra,), on_key=True
        )
    if "l7" in value and "l7proto" not in value:
        yield ValueFault(
            "TG125", '"l7" does not say its protocol', "add l7proto", ("l7",), on_key=True
        )
    for name in given[:1] if "l7proto" in value else ():
        if name != "l7":
            yield ValueFault(
                "TG125", f'"l7proto" stands beside "{name}"', path=("l7proto",), on_key=True
            )


def _parser_rule(value: Mapping[str, Any]) -> Iterator[ValueFault]:
    for key, text in value.items():
        if not key:
            yield ValueFault("TG105", "the empty key is no field of any parser")
        if not isinstance(text, str):
            yield ValueFault("TG106", f"{shown(text)} is not text", f"write '{text}'", (key,))


def _grpc_service(value: str) -> Iterator[ValueFault]:
    if not _GRPC_SERVICE.fullmatch(value):
        yield ValueFault("TG128", f"{shown(value)} is not a gRPC service")
    elif "." not in value:
        yield ValueFault("TG341", f"{shown(value)} names a service without its package")


def _grpc_method(value: str) -> Iterator[ValueFault]:
    if not _GRPC_METHOD.fullmatch(value):
        fix = "leave method out to mean every method" if value == "*" else ""
        yield ValueFault("TG128", f"{shown(value)} is not a gRPC method", fix)


def _kafka_rule(value: Mapping[str, Any]) -> Iterator[ValueFault]:
    if value.get("role") and value.get("apiKey"):
        yield ValueFault("TG125", '"apiKey" stands beside "role"', path=("apiKey",), on_key=True)


def _kafka_api_key(value: str) -> Iterator[ValueFault]:
    if api_key(value) is None:
        meant = nearest(value.lower(), API_KEYS)
        fix = f'write "{meant}"' if meant else ""
        yield ValueFault("TG124", f"{shown(value)} is not an API of Kafka", fix)


def _kafka_version(value: str) -> Iterator[ValueFault]:
    if not (value.isascii() and value.isdigit() and int(value[:6]) <= 0x7FFF and len(value) <= 5):
        yield ValueFault("TG124", f"{shown(value)} is not a version of a Kafka API")


def _kafka_word(value: str) -> Iterator[ValueFault]:
    if not _KAFKA_WORD.fullmatch(value):
        yield ValueFault("TG124", f"{shown(value)} is not a name in Kafka")


def _block_choice(value: Mapping[str, Any]) -> Iterator[ValueFault]:
    yield from one_of(value, ("cidr", "cidrGroupRef", "cidrGroupSelector"))


def _service_choice(value: Mapping[str, Any]) -> Iterator[ValueFault]:
    yield from one_of(value, ("k8sService", "k8sServiceSelector"))


def _subject_choice(value: Mapping[str, Any]) -> Iterator[ValueFault]:
    yield from one_of(value, ("endpointSelector", "nodeSelector"))


def _log_value(value: str) -> Iterator[ValueFault]:
    if len(value) > MAX_LOG_VALUE or not value.isprintable():
        yield ValueFault("TG127", f"{shown(value)} is no text of up to {MAX_LOG_VALUE} characters")


REQUEST_CHECKS: Final[dict[str, Callable[[Any], Iterator[ValueFault]]]] = {
    "block-choice": _block_choice,
    "dns-name": _dns_name,
    "dns-pattern": _dns_pattern,
    "grpc-method": _grpc_method,
    "grpc-service": _grpc_service,
    "header": _header,
    "header-name": _header_name,
    "http-host": _http_host,
    "http-method": _http_method,
    "http-path": _http_path,
    "kafka-api-key": _kafka_api_key,
    "kafka-rule": _kafka_rule,
    "kafka-version": _kafka_version,
    "kafka-word": _kafka_word,
    "log-value": _log_value,
    "name-choice": _name_choice,
    "parser-rule": _parser_rule,
    "rate-span": _rate_span,
    "request-count": _request_count,
    "request-rules": _request_rules,
    "server-name": _server_name,
    "server-names": _server_names,
    "service-choice": _service_choice,
    "subject-choice": _subject_choice,
}
"""The names that schemas of requests may put after `holds`."""

KAFKA_ROLES: Final = tuple(ROLES)
