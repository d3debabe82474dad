"""What a container runtime says, by way of the CNI plugin; and the host's CNI chain."""

from __future__ import annotations

import json
from ipaddress import ip_address

from nodeagent.cni.conflist import BrokenConflist, PluginOptions, with_plugin, without_plugin
from nodeagent.cni.messages import SIZE, Refusal, Request, decode_request, encode_request
from nodeagent.cni.sandboxes import read_sandbox, still_valid
from tests.fuzz.target import Target

OPTIONS = PluginOptions(socket="/run/tidegate/cni.sock")
RESULT = {
    "cniVersion": "1.0.0",
    "interfaces": [{"name": "veth7"}, {"name": "eth0", "mac": "02:00:00:00:00:0A", "sandbox": "/n"}],
    "ips": [{"address": "10.0.0.7/24", "interface": 1}, {"address": "fd00::7/64"}],
}  # fmt: skip
CONFIGURATION = json.dumps({"prevResult": RESULT, "cni.dev/valid-attachments": []}).encode()
CHAIN = b'{"name": "pods", "cniVersion": "1.0.0", "plugins": [{"type": "bridge"}]}'
WORDS = (
    b'"', b"{", b"}", b"[", b"]", b",", b":", b"null", b"true", b"1e999", b'"ips"', b'"address"', b"\0\0\0\1",
    b'"plugins"', b'"type": "tidegate-cni"', b'"sandbox"', b'"interface": -1', b"::1", b"\xff", b"\\ud800",
)  # fmt: skip


def _request(configuration: bytes) -> Request:
    return Request(
        command="ADD",
        container="c1",
        interface="eth0",
        arguments="K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web",
        configuration=configuration,
    )


def feed_request(data: bytes) -> None:
    """A whole request: read and written again it is the same; it is refused, or a pod's with addresses."""
    try:
        request = decode_request(data)
        assert encode_request(request)[SIZE.size :] == data
        sandbox = read_sandbox(request)
    except Refusal:
        return
    assert sandbox.namespace
    assert all(map(ip_address, sandbox.addresses))


def feed_configuration(data: bytes) -> None:
    """The configuration of a call that is sound otherwise."""
    for read in (lambda: read_sandbox(_request(data)), lambda: still_valid(data)):
        try:
            read()
        except Refusal:
            continue


def feed_conflist(data: bytes) -> None:
    """A chain: with our plugin in it and out again it is what it was without."""
    try:
        joined = with_plugin(data, OPTIONS)
    except BrokenConflist:
        return
    assert with_plugin(joined, OPTIONS) == joined
    assert json.loads(without_plugin(joined)) == json.loads(without_plugin(data))


TARGETS = (
    Target(
        name="cni-request",
        feed=feed_request,
        seeds=(encode_request(_request(CONFIGURATION))[SIZE.size :],),
        words=WORDS,
    ),
    Target(name="cni-configuration", feed=feed_configuration, seeds=(CONFIGURATION,), words=WORDS),
    Target(name="cni-conflist", feed=feed_conflist, seeds=(CHAIN,), words=WORDS),
)
