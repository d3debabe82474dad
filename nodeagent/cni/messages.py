"""What `tidegate-cni` asks, and how it is answered. `cni/agent.h` says the same in C.

In:   bytes of a request
Out:  Request; bytes of an answer
Pure.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

PROTOCOL: Final = 1
MAX_REQUEST_BYTES: Final = (1 << 20) + 64 * 1024
MAX_TEXT_BYTES: Final = 4096
SIZE: Final = struct.Struct("!I")
_HEAD: Final = struct.Struct("!BI")
_ANSWER: Final = struct.Struct("!IBI")
_FIELDS: Final = 6


class Outcome(IntEnum):
    """What becomes of the pod. AGENT_AWAY of the C side is never sent."""

    DONE = 0
    REFUSED = 1
    NOT_READY = 2


class CniCode(IntEnum):
    """The CNI specification's error codes."""

    BAD_ENVIRONMENT = 4
    IO_FAILURE = 5
    CANNOT_DECODE = 6
    BAD_CONFIGURATION = 7
    TRY_AGAIN = 11


class Refusal(Exception):
    """The request cannot be granted, now or later."""

    def __init__(self, code: CniCode, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call of the container runtime. `budget_seconds`: how long the plugin can wait."""

    command: str
    container: str
    interface: str
    arguments: str
    configuration: bytes
    namespace: str = ""
    budget_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the plugin is told; `code` and `text` unless it is DONE."""

    outcome: Outcome
    code: int = 0
    text: str = ""


def decode_request(data: bytes) -> Request:
    """Read a request, without the size before it; raises Refusal."""
    if len(data) < _HEAD.size or data[0] != PROTOCOL:
        raise Refusal(
            CniCode.CANNOT_DECODE, "the plugin and the agent are of different versions: install it"
        )
    _, milliseconds = _HEAD.unpack_from(data)
    fields = _fields(data[_HEAD.size :])
    try:
        command, container, namespace, interface, arguments = (f.decode() for f in fields[:-1])
    except UnicodeDecodeError as error:
        raise Refusal(CniCode.BAD_ENVIRONMENT, "a CNI_ variable is not UTF-8") from error
    return Request(
        command=command,
        container=container,
        namespace=namespace,
        interface=interface,
        arguments=arguments,
        configuration=fields[-1],
        budget_seconds=milliseconds / 1000,
    )


def encode_request(request: Request) -> bytes:
    """What the C side sends, with the size before it."""
    texts = (
        request.command,
        request.container,
        request.namespace,
        request.interface,
        request.arguments,
    )
    fields = (*(text.encode() for text in texts), request.configuration)
    body = _HEAD.pack(PROTOCOL, int(request.budget_seconds * 1000))
    body += b"".join(SIZE.pack(len(field)) + field for field in fields)
    return SIZE.pack(len(body)) + body


def encode_answer(answer: Answer) -> bytes:
    """The bytes to send; a long text is cut."""
    text = answer.text.encode(errors="replace")[:MAX_TEXT_BYTES]
    return _ANSWER.pack(_ANSWER.size - SIZE.size + len(text), answer.outcome, answer.code) + text


def decode_answer(data: bytes) -> Answer:
    """What the C side reads."""
    _, outcome, code = _ANSWER.unpack_from(data)
    text = data[_ANSWER.size :].decode(errors="replace")
    return Answer(outcome=Outcome(outcome), code=code, text=text)


def _fields(data: bytes) -> list[bytes]:
    found: list[bytes] = []
    start = 0
    while len(found) < _FIELDS and start + SIZE.size <= len(data):
        (size,) = SIZE.unpack_from(data, start)
        start += SIZE.size
        if start + size > len(data):
            break
        found.append(data[start : start + size])
        start += size
    if len(found) != _FIELDS or start != len(data):
        raise Refusal(CniCode.CANNOT_DECODE, "the request is cut short, or too long")
    return found
