"""HTTP/2 by hand: frames that a library would not let one send.

Headers are literals without Huffman coding or indexing (RFC 7541 section 6.2.2), so they may say anything.
"""

from __future__ import annotations

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY, CONTINUATION = 0, 1, 3, 4, 7, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
MAX_FRAME = 16_384


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    """One frame."""
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def block(*headers: tuple[str, str]) -> bytes:
    """A block of headers."""
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in headers)


def _text(text: str) -> bytes:
    data = text.encode("latin-1")
    return _length(len(data)) + data


def _length(number: int) -> bytes:
    """RFC 7541 section 5.1, with a prefix of seven bits."""
    if number < 127:
        return bytes([number])
    rest, found = number - 127, [127]
    while rest >= 128:
        found.append(rest % 128 + 128)
        rest //= 128
    return bytes([*found, rest])


def hello() -> bytes:
    """What a client sends first."""
    return PREFACE + frame(SETTINGS)


def headers(
    *pairs: tuple[str, str], stream: int = 1, flags: int = END_STREAM | END_HEADERS
) -> bytes:
    """A request's headers, in as many frames as they need."""
    data = block(*pairs)
    pieces = [data[at : at + MAX_FRAME] for at in range(0, len(data), MAX_FRAME)] or [b""]
    if len(pieces) == 1:
        return frame(HEADERS, data, flags=flags, stream=stream)
    found = frame(HEADERS, pieces[0], flags=flags & ~END_HEADERS, stream=stream)
    for piece in pieces[1:-1]:
        found += frame(CONTINUATION, piece, stream=stream)
    return found + frame(CONTINUATION, pieces[-1], flags=flags & END_HEADERS, stream=stream)


def frames_in(data: bytes) -> list[tuple[int, int, bytes]]:
    """The whole frames in some bytes: kind, stream, payload."""
    found = []
    while len(data) >= 9 and len(data) >= 9 + int.from_bytes(data[:3]):
        end = 9 + int.from_bytes(data[:3])
        found.append((data[3], int.from_bytes(data[5:9]), data[9:end]))
        data = data[end:]
    return found
