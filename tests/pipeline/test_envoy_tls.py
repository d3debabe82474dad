"""TLS at the real Envoy: connections judged by the name they ask for, or ended and their requests judged.

client ── TLS ──▶ Envoy ── bytes as they are, HTTP, or TLS of its own ──▶ server
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer

import pytest

from netpolicy.drop_reasons import POLICY_DENIED, TLS_FAILED
from netpolicy.http_flow import TCP, TLS
from netpolicy.rules import (
    HeaderMatch,
    HeaderMismatch,
    HttpRule,
    L7Rules,
    NamePattern,
    SecretRef,
    TlsContext,
)
from nodeagent.envoy.errors import ProxyError
from nodeagent.l7.rule_sets import ProxyRule, RuleSet, rule_set
from tests.support.access_log import log_of
from tests.support.envoy_scene import (
    ANSWER,
    PORT,
    EnvoyScene,
    envoy_scene,
    request,
    rules,
    status_on,
)
from tests.support.kube_certificates import Authority

pytestmark = pytest.mark.slow

ID = rules().rules[0].id
CONTEXT = TlsContext(secret=SecretRef(namespace="shop", name="web"))
ADMIN = request("GET", "/admin", host="api.example")
PUBLIC = request("GET", "/public", host="api.example")
LISTED = L7Rules(http=(HttpRule(path="/public"),))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[EnvoyScene]:
    """With a server that speaks TLS as api.example, and the proxy's secret for that name."""
    folder = tmp_path_factory.mktemp("envoy")
    write_secret(folder, authority, "api.example")
    with tls_server(authority) as upstream, tls_scene(folder, upstream) as made:
        yield made


@contextmanager
def tls_scene(folder: Path, upstream: tuple[str, int] | None = None) -> Iterator[EnvoyScene]:
    with envoy_scene(folder, upstream=upstream, secrets=folder / "secrets") as made:
        yield made


def named(*names: NamePattern) -> RuleSet:
    return rule_set([ProxyRule(id=ID, server_names=names)])


@pytest.mark.parametrize(
    ("pattern", "name", "passes"),
    [
        (NamePattern(name="api.example"), "api.example", True),
        (NamePattern(name="api.example"), "API.Example", True),
        (NamePattern(name="api.example"), "xapi.example", False),
        (NamePattern(name="api.example"), "apixexample", False),
        (NamePattern(name="api.example"), "", False),
        (NamePattern(pattern="*.example"), "api.example", True),
        (NamePattern(pattern="*.example"), "a.api.example", False),
        (NamePattern(pattern="*.example"), "example", False),
        (NamePattern(pattern="**.example"), "a.api.example", True),
        (NamePattern(pattern="**.example"), "example", False),
    ],
)
def test_a_connection_passes_by_the_name_it_asks_for(
    scene: EnvoyScene, authority: Authority, pattern: NamePattern, name: str, passes: bool
) -> None:
    scene.serve(named(pattern))
    assert (ask(scene, authority, name, PUBLIC, checked=False) == 200) == passes


def test_what_is_not_tls_does_not_pass_for_a_name(scene: EnvoyScene) -> None:
    scene.serve(named(NamePattern(pattern="*")))
    assert scene.exchange(request("GET", "/", host="api.example"), seconds=0.3) == b""


def test_names_on_one_port_and_requests_in_clear_do_not_mix(
    scene: EnvoyScene, authority: Authority
) -> None:
    both = [ProxyRule(id=ID, l7=LISTED), *named(NamePattern(name="api.example")).rules]
    scene.serve(rule_set(both))
    assert ask(scene, authority, "api.example", ADMIN) == 200
    assert scene.status(ADMIN) == 403
    assert ask(scene, authority, "other.example", PUBLIC, checked=False) == 0


def test_tls_is_ended_and_its_requests_are_judged(tmp_path: Path, authority: Authority) -> None:
    with tls_scene(tmp_path) as scene:
        write_secret(tmp_path, authority, "api.example")
        scene.serve(rule_set([ProxyRule(id=ID, l7=LISTED, terminating_tls=CONTEXT)]))
        assert ask(scene, authority, "api.example", PUBLIC) == 200
        assert ask(scene, authority, "api.example", ADMIN) == 403
        assert b"GET /public HTTP/1.1" in scene.backend.received
        assert scene.exchange(PUBLIC, seconds=0.3) == b""


def test_ended_tls_is_judged_by_its_name_too(tmp_path: Path, authority: Authority) -> None:
    with tls_scene(tmp_path) as scene:
        write_secret(tmp_path, authority, "*.example")
        ended = ProxyRule(id=ID, l7=LISTED, terminating_tls=CONTEXT)
        names = (NamePattern(pattern="*.example"),)
        scene.serve(rule_set([replace(ended, server_names=names)]))
        assert ask(scene, authority, "api.example", PUBLIC, checked=False) == 200
        assert ask(scene, authority, "a.b.example", PUBLIC, checked=False) == 403
        assert ask(scene, authority, "api.other", PUBLIC, checked=False) == 0


def test_a_rule_for_one_name_mends_no_request_for_another(
    tmp_path: Path, authority: Authority
) -> None:
    """Both rules list the same requests, each for its own name; one of them marks what it lets pass."""
    mark = HeaderMatch(name="X-Mark", value="1", mismatch=HeaderMismatch.ADD)
    marking = L7Rules(http=(HttpRule(path="/public", header_matches=(mark,)),))
    with tls_scene(tmp_path) as scene:
        write_secret(tmp_path, authority, "*.example")
        plain = ProxyRule(id=ID, l7=LISTED, terminating_tls=CONTEXT)
        scene.serve(
            rule_set(
                [
                    replace(plain, server_names=(NamePattern(name="plain.example"),)),
                    replace(plain, l7=marking, server_names=(NamePattern(name="api.example"),)),
                ]
            )
        )
        assert ask(scene, authority, "plain.example", PUBLIC, checked=False) == 200
        assert b"x-mark" not in scene.backend.received
        assert ask(scene, authority, "api.example", PUBLIC, checked=False) == 200
        assert b"x-mark: 1" in scene.backend.received


def test_tls_is_ended_and_begun_anew_towards_the_server(
    scene: EnvoyScene, authority: Authority
) -> None:
    through = ProxyRule(id=ID, l7=LISTED, terminating_tls=CONTEXT, originating_tls=CONTEXT)
    scene.serve(rule_set([through]))
    assert ask(scene, authority, "api.example", PUBLIC) == 200
    assert ask(scene, authority, "api.example", ADMIN) == 403


def test_a_server_that_the_secrets_authorities_do_not_vouch_for_gets_no_request(
    tmp_path: Path, authority: Authority
) -> None:
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    with (
        tls_server(Authority.make(stranger)) as upstream,
        tls_scene(tmp_path, upstream) as scene,
    ):
        write_secret(tmp_path, authority, "api.example")
        scene.serve(rule_set([ProxyRule(id=ID, l7=LISTED, originating_tls=CONTEXT)]))
        assert scene.status(PUBLIC) == 503


def test_a_server_under_another_name_gets_no_request(
    scene: EnvoyScene, authority: Authority
) -> None:
    scene.serve(rule_set([ProxyRule(id=ID, l7=LISTED, originating_tls=CONTEXT)]))
    assert scene.status(PUBLIC) == 200
    assert scene.status(request("GET", "/public", host="evil.example")) == 503


def test_a_handshake_that_fails_is_told_with_the_name_it_asked_for(
    tmp_path: Path, authority: Authority
) -> None:
    """The client does not trust the proxy; another one speaks no TLS at all."""
    with tls_scene(tmp_path) as scene, log_of(scene) as told:
        write_secret(tmp_path, authority, "api.example")
        scene.serve(rule_set([ProxyRule(id=ID, l7=LISTED, terminating_tls=CONTEXT)]))
        with pytest.raises(ssl.SSLCertVerificationError), scene.connect() as client:
            ssl.create_default_context().wrap_socket(client, server_hostname="api.example")
        scene.exchange(PUBLIC, seconds=20.0)
        assert ask(scene, authority, "api.example", PUBLIC) == 200
        by_reason = {found.drop_reason: found for found in told.first(3)}
    failed, clear, passed = (by_reason[reason] for reason in (TLS_FAILED, POLICY_DENIED, 0))
    assert (failed.exchange.protocol, failed.exchange.host) == (TLS, "api.example")
    assert failed.listener == PORT
    assert clear.exchange.protocol == TCP
    assert passed.exchange.code == 200


@pytest.mark.parametrize("context", [CONTEXT, None], ids=["two secrets", "ended and passed on"])
def test_rules_that_want_one_connection_treated_in_two_ways_leave_the_last_good_ones(
    scene: EnvoyScene, authority: Authority, context: TlsContext | None
) -> None:
    """Of policies whose subjects only overlap nobody knows before that they meet on a pod."""
    good = ProxyRule(id=ID, l7=LISTED, terminating_tls=CONTEXT, originating_tls=CONTEXT)
    scene.serve(rule_set([good]))
    other = (
        replace(good, terminating_tls=TlsContext(secret=SecretRef(namespace="shop", name="two")))
        if context
        else ProxyRule(id=ID, server_names=(NamePattern(name="api.example"),))
    )
    write_secret(scene.settings.folder.parent, authority, "api.example", secret="two")
    with pytest.raises(ProxyError, match="matching rules"):
        scene.serve(rule_set([good, other]))
    assert ask(scene, authority, "api.example", PUBLIC) == 200
    assert ask(scene, authority, "api.example", ADMIN) == 403


def test_without_its_secret_a_rule_lets_nothing_pass_until_the_secret_comes(
    tmp_path: Path, authority: Authority
) -> None:
    with tls_scene(tmp_path) as scene:
        wanted = rule_set([ProxyRule(id=ID, l7=LISTED, terminating_tls=CONTEXT)])
        scene.serve(wanted)
        assert ask(scene, authority, "api.example", PUBLIC) == 0
        assert scene.proxy.status().lacking == (str(ID),)
        write_secret(tmp_path, authority, "api.example")
        scene.serve(wanted)
        assert scene.proxy.status().lacking == ()
        assert ask(scene, authority, "api.example", PUBLIC) == 200


def test_a_secret_is_taken_up_when_it_comes_and_when_it_changes(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodeagent.envoy.proxy.SECRETS_SECONDS", 0.1)
    with tls_scene(tmp_path) as scene:
        scene.serve(rule_set([ProxyRule(id=ID, l7=LISTED, terminating_tls=CONTEXT)]))
        assert ask(scene, authority, "api.example", PUBLIC) == 0
        for name in ("api.example", "web.example"):
            write_secret(tmp_path, authority, name)
            until(lambda name=name: ask(scene, authority, name, PUBLIC) == 200)  # type: ignore[misc]


def test_a_header_whose_value_only_a_secret_knows_is_compared_with_it(
    tmp_path: Path, authority: Authority
) -> None:
    match = HeaderMatch(name="X-Key", secret=SecretRef(namespace="shop", name="web", key="key"))
    listed = L7Rules(http=(HttpRule(header_matches=(match,)),))
    right, wrong = (request("GET", "/", f"X-Key: {value}") for value in ("right", "wrong"))
    with tls_scene(tmp_path) as scene:
        wanted = rule_set([ProxyRule(id=ID, l7=listed)])
        scene.serve(wanted)
        assert [scene.status(right), scene.status(wrong)] == [403, 403]
        assert scene.proxy.status().lacking == (str(ID),)
        write_secret(tmp_path, authority, "api.example")
        (tmp_path / "secrets" / "shop" / "web" / "key").write_text("right\n")
        scene.serve(wanted)
        assert [scene.status(right), scene.status(wrong)] == [200, 403]
        assert scene.proxy.status().lacking == ()


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("damaged", ["tls.crt", "tls.key", "ca.crt"])
def test_a_secret_that_makes_no_sense_lets_nothing_pass_and_holds_up_no_other_rule(
    tmp_path: Path, authority: Authority, damaged: str
) -> None:
    with tls_scene(tmp_path) as scene:
        write_secret(tmp_path, authority, "api.example")
        (tmp_path / "secrets" / "shop" / "web" / damaged).write_text("no certificate at all")
        ended = ProxyRule(id=ID, l7=LISTED, terminating_tls=CONTEXT, originating_tls=CONTEXT)
        scene.serve(rule_set([ended]), rule_set([ProxyRule(id=ID, l7=LISTED)]))
        assert ask(scene, authority, "api.example", PUBLIC) in (0, 503)
        assert scene.status(PUBLIC, port=PORT + 1) == 200


def ask(
    scene: EnvoyScene, authority: Authority, name: str, sent: bytes, *, checked: bool = True
) -> int:
    """The status of a request by TLS for a name; 0 if the connection is closed."""
    context = ssl.create_default_context(cafile=str(authority.certificate))
    context.check_hostname = checked
    with scene.connect(PORT) as client, suppress(OSError):
        client.settimeout(20)
        with context.wrap_socket(client, server_hostname=name or None) as wrapped:
            return status_on(wrapped, sent)
    return 0


def write_secret(folder: Path, authority: Authority, name: str, secret: str = "web") -> None:
    """A secret of the namespace shop: a certificate for a name, and the authority."""
    place = folder / "secrets" / "shop" / secret
    place.mkdir(parents=True, exist_ok=True)
    certificate, key = authority.issue("proxy", names=[name])
    (place / "tls.crt").write_bytes(certificate.read_bytes())
    (place / "tls.key").write_bytes(key.read_bytes())
    (place / "ca.crt").write_bytes(authority.certificate.read_bytes())


@contextmanager
def tls_server(authority: Authority) -> Iterator[tuple[str, int]]:
    """Answers each request head by TLS, as api.example."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.issue("server", names=["api.example"]))

    class Answering(BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError), context.wrap_socket(self.request, server_side=True) as taken:
                while taken.recv(65536):
                    taken.sendall(ANSWER)

    server = ThreadingTCPServer(("127.0.0.1", 0), Answering)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield "127.0.0.1", server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
