"""Which interfaces are taken for pods', and what the kernel's list of them says."""

from __future__ import annotations

import socket
import struct

from nodeagent.endpoints.links import Link, decode_links, pod_like, read_links

PATTERNS = ("veth*", "cali*")


def test_only_a_pair_that_leads_out_of_the_node_is_a_pods():
    links = (
        Link(name="veth1", index=2, leads_elsewhere=True),
        Link(name="veth2", index=3),
        Link(name="eth0", index=4, leads_elsewhere=True),
        Link(name="cali7", index=5, leads_elsewhere=True),
    )
    assert pod_like(links, PATTERNS) == {"veth1": 2, "cali7": 5}
    assert pod_like(links, ()) == {}


def _attribute(kind: int, body: bytes) -> bytes:
    return struct.pack("=HH", len(body) + 4, kind) + body + bytes(-len(body) % 4)


def _message(index: int, *attributes: bytes) -> bytes:
    body = struct.pack("=BxHiII", 0, 1, index, 0, 0) + b"".join(attributes)
    return struct.pack("=IHHII", 16 + len(body), 16, 2, 1, 0) + body


def test_a_pair_with_both_ends_here_does_not_lead_elsewhere():
    veth = _attribute(18, _attribute(1, b"veth\0"))
    answer = _message(7, _attribute(3, b"veth7\0"), veth) + _message(
        8, _attribute(3, b"veth8\0"), veth, _attribute(37, struct.pack("=i", 0))
    )
    assert decode_links(answer) == (
        Link(name="veth7", index=7),
        Link(name="veth8", index=8, leads_elsewhere=True, peer_netns=0),
    )


def test_an_answer_cut_anywhere_is_read_without_failing():
    whole = _message(7, _attribute(3, b"veth7\0"), _attribute(18, _attribute(1, b"veth\0")))
    for end in range(32, len(whole)):
        decode_links(whole[:end])


def test_the_list_is_the_kernels_own():
    assert {(link.index, link.name) for link in read_links()} == set(socket.if_nameindex())
