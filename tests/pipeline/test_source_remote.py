"""The Git source against real servers: HTTPS, SSH, and everything that goes wrong between."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path

import pytest

from netpolicy.errors import StalledError, TransientError
from reconciler.source import GitSource, Relation, Revert, SourceConfig
from tests.support.git_server import GitServer
from tests.support.git_server_sources import (
    PASSWORD,
    USER,
    MuteServer,
    ServedRepository,
    serve_repository,
)
from tests.support.git_server_ssh import SshGitServer
from tests.support.git_server_tls import make_tls_files

pytestmark = pytest.mark.slow


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ServedRepository]:
    repository = serve_repository(tmp_path)
    yield repository
    repository.close()


@pytest.fixture
def ssh(served: ServedRepository, tmp_path: Path) -> Iterator[SshGitServer]:
    server = SshGitServer(tmp_path / "root", tmp_path / "ssh")
    yield server
    server.close()


def over_ssh(server: SshGitServer) -> SourceConfig:
    return SourceConfig(
        url=f"{server.url}/policy.git",
        ssh_key_file=server.client_key,
        known_hosts_file=server.known_hosts,
    )


def stall_reason(source: GitSource) -> str:
    with pytest.raises(StalledError) as caught:
        source.fetch()
    assert PASSWORD not in repr(caught.value)
    return caught.value.reason


def test_fetches_follow_the_branch(served: ServedRepository) -> None:
    source = served.source()
    first = served.repository.tip
    assert source.fetch().relation is Relation.FIRST
    assert source.fetch().relation is Relation.UNCHANGED
    second = served.repository.commit({"policies/new.yaml": "new"}, message="Add\x07 new\n\nbody")
    fetched = source.fetch()
    assert (fetched.commit, fetched.previous) == (second, first)
    assert fetched.relation is Relation.DESCENDANT
    assert source.changed_paths(first, second) == ("policies/new.yaml",)
    assert source.commit_summary(second).subject == "Add new"
    assert source.is_descendant(second, first)
    assert not source.is_descendant(first, second)


def test_a_fetch_that_brings_nothing_moves_no_objects(served: ServedRepository) -> None:
    source = served.source()
    assert source.fetch().received_bytes > 0
    requests = served.server.requests
    assert source.fetch().received_bytes == 0
    assert served.server.requests - requests <= 2


def test_rewritten_history_is_told_apart_and_the_old_commit_stays_readable(
    served: ServedRepository,
) -> None:
    source = served.source()
    old = source.fetch().commit
    new = served.repository.rewrite({"tidegate.yaml": "b: 2\n"})
    assert source.fetch().relation is Relation.DIVERGED
    assert not source.is_descendant(new, old)
    assert source.fetch(since=old).relation is Relation.DIVERGED
    assert len(source.read(old).files) == 2


def test_a_branch_moved_back_has_diverged(served: ServedRepository) -> None:
    source = served.source()
    first = served.repository.tip
    served.repository.commit({"policies/new.yaml": "new"})
    source.fetch()
    served.repository.force(first)
    assert source.fetch().relation is Relation.DIVERGED


def test_a_vanished_server_is_transient_and_nothing_local_is_lost(
    served: ServedRepository,
) -> None:
    source = served.source()
    commit = source.fetch().commit
    served.server.close()
    with pytest.raises(TransientError):
        source.fetch()
    assert len(source.read(commit).files) == 2
    served.server = serve_again(served)
    assert source.fetch().relation is Relation.UNCHANGED


def serve_again(served: ServedRepository) -> GitServer:
    return GitServer(
        served.directory / "root",
        certificate=served.tls.certificate,
        key=served.tls.key,
        user=USER,
        password=PASSWORD,
        port=served.server.server_address[1],
    ).start()


def test_a_vanished_repository_is_transient(served: ServedRepository) -> None:
    source = served.source()
    source.fetch()
    served.repository.path.rename(served.directory / "elsewhere")
    with pytest.raises(TransientError):
        source.fetch()


def test_a_failing_server_is_transient(served: ServedRepository) -> None:
    served.server.answer_status = HTTPStatus.BAD_GATEWAY
    with pytest.raises(TransientError, match="502"):
        served.source().fetch()


def test_an_empty_repository_stalls(served: ServedRepository) -> None:
    served.repository.delete_branch()
    assert stall_reason(served.source()) == "RepositoryEmpty"


def test_a_missing_branch_stalls_and_keeps_what_was_fetched(served: ServedRepository) -> None:
    source = served.source()
    commit = source.fetch().commit
    served.repository.git.references.create("refs/heads/other", commit)
    served.repository.delete_branch()
    assert stall_reason(source) == "BranchMissing"
    assert len(source.read(commit).files) == 2


def test_a_wrong_password_stalls_and_appears_nowhere(
    served: ServedRepository, capfd: pytest.CaptureFixture[str]
) -> None:
    wrong = "hunter2-not-the-password"
    served.password_file.write_text(wrong)
    source = served.source()
    with pytest.raises(StalledError) as caught:
        source.fetch()
    assert caught.value.reason == "AuthenticationFailed"
    texts = (str(caught.value), repr(caught.value), repr(served.config), *capfd.readouterr())
    assert not any(wrong in text for text in texts)
    served.password_file.write_text(PASSWORD)
    assert source.fetch().relation is Relation.FIRST


def test_credentials_are_never_kept_in_the_clone(served: ServedRepository) -> None:
    served.source().fetch()
    kept = (p for p in (served.directory / "source").rglob("*") if p.is_file())
    assert not any(PASSWORD.encode() in path.read_bytes() for path in kept)


def test_missing_credentials_stall(served: ServedRepository) -> None:
    source = served.source(replace(served.config, password_file=None))
    assert stall_reason(source) == "AuthenticationFailed"


def test_a_forbidden_repository_stalls(served: ServedRepository) -> None:
    served.server.answer_status = HTTPStatus.FORBIDDEN
    assert stall_reason(served.source()) == "AuthenticationFailed"


def test_an_unknown_authority_stalls_before_the_password_is_sent(
    served: ServedRepository,
) -> None:
    other = make_tls_files(served.directory / "other")
    source = served.source(replace(served.config, ca_file=other.authority))
    assert stall_reason(source) == "CertificateRejected"
    assert served.server.passwords_seen == []


def test_with_an_own_authority_the_systems_are_not_trusted(
    served: ServedRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(served.tls.authority))
    other = make_tls_files(served.directory / "other")
    without = served.source(replace(served.config, ca_file=None), folder="system")
    assert without.fetch().relation is Relation.FIRST
    source = served.source(replace(served.config, ca_file=other.authority))
    assert stall_reason(source) == "CertificateRejected"


def test_a_replaced_authority_file_is_trusted_from_the_next_fetch(
    served: ServedRepository,
) -> None:
    authority = served.directory / "authority.pem"
    authority.write_bytes(make_tls_files(served.directory / "other").authority.read_bytes())
    source = served.source(replace(served.config, ca_file=authority))
    assert stall_reason(source) == "CertificateRejected"
    replacement = served.directory / "authority.new"
    replacement.write_bytes(served.tls.authority.read_bytes())
    replacement.rename(authority)
    assert source.fetch().relation is Relation.FIRST


def test_a_redirect_to_another_host_or_to_plain_http_gets_no_password(
    served: ServedRepository, tmp_path: Path
) -> None:
    elsewhere = GitServer(
        tmp_path / "root",
        certificate=served.tls.certificate,
        key=served.tls.key,
        user=USER,
        password=PASSWORD,
    ).start()
    try:
        for target in (
            elsewhere.url.replace("127.0.0.1", "localhost"),
            elsewhere.url.replace("https://", "http://"),
        ):
            served.server.redirect_to = target
            assert stall_reason(served.source()) == "Redirected"
        assert elsewhere.passwords_seen == []
    finally:
        elsewhere.close()


def reverted(served: ServedRepository, *, branch: str = "tidegate/revert") -> tuple[Revert, str]:
    """A commit, the bad one on top of it, and what undoes that."""
    target = served.repository.tip
    bad = served.repository.commit({"policies/shop/web.yaml": "kind: Other\n"})
    revert = Revert(revision=bad, target=target, branch=branch, message="Revert it\n\nIt cuts.\n")
    return revert, target


def test_a_revert_is_a_commit_on_top_with_the_tree_of_the_target(served: ServedRepository) -> None:
    revert, target = reverted(served)
    source = served.source()
    source.fetch()
    pushed = source.push_revert(revert)
    git = served.repository.git
    assert str(git.references["refs/heads/tidegate/revert"].target) == pushed
    commit = git[pushed]
    assert (commit.tree.id, [str(one) for one in commit.parent_ids]) == (
        git[target].tree.id,
        [revert.revision],
    )
    assert commit.message == revert.message
    assert served.repository.tip == revert.revision
    assert source.push_revert(revert) == pushed  # again: it finds its work done
    assert source.fetch().commit == revert.revision


def test_a_revert_forces_no_branch_and_never_pushes_to_the_followed_one(
    served: ServedRepository,
) -> None:
    revert, _ = reverted(served)
    source = served.source()
    source.fetch()
    served.repository.git.references.create("refs/heads/taken", served.repository.tip)
    served.repository.commit({"policies/shop/web.yaml": "kind: Third\n"})
    third = served.repository.tip
    served.repository.git.references["refs/heads/taken"].set_target(third)
    for branch in ("main", "taken", "no..name"):
        with pytest.raises((StalledError, TransientError)):
            source.push_revert(replace(revert, branch=branch))
    assert str(served.repository.git.references["refs/heads/taken"].target) == third
    assert served.repository.tip == third


def test_a_revert_that_may_not_be_pushed_stalls(served: ServedRepository) -> None:
    revert, _ = reverted(served)
    source = served.source()
    source.fetch()
    served.server.answer_status = HTTPStatus.FORBIDDEN
    with pytest.raises(StalledError) as caught:
        source.push_revert(revert)
    assert PASSWORD not in repr(caught.value)


def test_ssh_fetches_from_a_known_host(ssh: SshGitServer, served: ServedRepository) -> None:
    source = served.source(over_ssh(ssh))
    assert source.fetch().commit == served.repository.tip


def test_ssh_refuses_a_host_that_is_not_known(ssh: SshGitServer, served: ServedRepository) -> None:
    empty = served.directory / "empty"
    empty.touch()
    for known in (None, empty):
        source = served.source(replace(over_ssh(ssh), known_hosts_file=known))
        assert stall_reason(source) == "HostKeyRejected"


def test_ssh_refuses_a_host_key_that_changed(
    ssh: SshGitServer, served: ServedRepository, tmp_path: Path
) -> None:
    other = SshGitServer(tmp_path / "root", tmp_path / "other-ssh")
    try:
        entry = other.known_hosts.read_text().replace(str(other.port), str(ssh.port))
        other.known_hosts.write_text(entry)
        config = replace(over_ssh(ssh), known_hosts_file=other.known_hosts)
        assert stall_reason(served.source(config)) == "HostKeyRejected"
    finally:
        other.close()


def test_ssh_with_a_key_that_is_not_authorized_stalls(
    ssh: SshGitServer, served: ServedRepository, tmp_path: Path
) -> None:
    other = SshGitServer(tmp_path / "root", tmp_path / "other-ssh")
    try:
        config = replace(over_ssh(ssh), ssh_key_file=other.client_key)
        assert stall_reason(served.source(config)) == "AuthenticationFailed"
    finally:
        other.close()


@pytest.mark.parametrize("scheme", ["https", "ssh"])
def test_a_server_that_says_nothing_is_left_in_time(scheme: str, served: ServedRepository) -> None:
    mute = MuteServer()
    try:
        config = replace(
            served.limited(timeout_seconds=1.5), url=f"{scheme}://127.0.0.1:{mute.port}/policy.git"
        )
        started = time.monotonic()
        with pytest.raises(TransientError):
            served.source(config).fetch()
        assert time.monotonic() - started < 4
    finally:
        mute.close()


def test_a_server_that_trickles_is_left_in_time(served: ServedRepository) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(served.tls.certificate, served.tls.key)
    stop = threading.Event()

    def trickle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.sendall(b"HTTP/1.1 200 OK\r\nX-Endless: ")
            while not stop.wait(0.1):
                secured.sendall(b"x")

    server = MuteServer(trickle)
    try:
        config = replace(
            served.limited(timeout_seconds=2), url=f"https://127.0.0.1:{server.port}/policy.git"
        )
        started = time.monotonic()
        with pytest.raises(TransientError):
            served.source(config).fetch()
        assert time.monotonic() - started < 5
    finally:
        stop.set()
        server.close()


def test_a_transfer_over_the_limit_is_broken_off(served: ServedRepository) -> None:
    served.repository.commit({"other/large.bin": os.urandom(8 * 1024 * 1024)})
    source = served.source(served.limited(max_transfer_bytes=256 * 1024))
    assert stall_reason(source) == "RepositoryTooLarge"
    assert served.server.sent_bytes < 8 * 1024 * 1024
    assert not (served.directory / "source" / "clone.git").exists()
