"""Publications: what is signed anew, what is kept, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from netpolicy import trust
from netpolicy.bundle import PackedUnit
from netpolicy.errors import RejectedBundle, StalledError
from reconciler.sign import Signer, init_keys, refresh_timestamp, rotate, sign_publication
from reconciler.sign.keys_cli import keys as keys_command
from tests.support.push_fleet import COMMIT, make_keys, publish, unit_of

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_keys(tmp_path_factory.mktemp("keys"), nodes=())


def many(*, changed: str = "") -> list[PackedUnit]:
    names = [f"ns-{number}" for number in range(100)]
    return [unit_of(name, "new" if name == changed else "old") for name in names]


def test_equal_inputs_give_equal_bytes_whatever_the_order_of_units(keys: Path) -> None:
    signer = Signer.load(keys)
    units = {unit.namespace: unit for unit in many()}
    backwards = dict(reversed(units.items()))
    first, second = (
        sign_publication(None, units=these, revision=COMMIT, sequence=3, signer=signer, now=NOW)
        for these in (units, backwards)
    )
    assert first == second


def test_one_changed_unit_renews_one_bin(keys: Path) -> None:
    first = publish(keys, 1, *many())
    second = publish(keys, 2, *many(changed="ns-7"), previous=first)
    renewed = [name for name in second.metadata if name not in first.metadata]
    roles = sorted(name.split(".")[1].split("-")[0] for name in renewed)
    assert roles == ["bin", "snapshot", "targets"]
    assert len(second.units.keys() - first.units.keys()) == 1


def test_a_refresh_renews_the_timestamp_alone(keys: Path) -> None:
    first = publish(keys, 4, *many())
    fresh = refresh_timestamp(first, signer=Signer.load(keys), now=datetime.now(UTC))
    assert fresh.version == first.version + 1
    changed = {name for name, data in fresh.metadata.items() if first.metadata.get(name) != data}
    assert changed == {"timestamp.json"}
    assert (fresh.sequence, fresh.digest) == (first.sequence, first.digest)


def test_a_refresh_renews_whatever_has_lived_half_its_life(keys: Path) -> None:
    first = publish(keys, 4, unit_of("shop", "one"))
    later = datetime.now(UTC) + timedelta(days=20)
    fresh = refresh_timestamp(first, signer=Signer.load(keys), now=later)
    renewed = {name.split(".")[1] for name in fresh.metadata.keys() - first.metadata.keys()}
    assert renewed == {"snapshot"}


def test_a_higher_sequence_has_higher_versions_than_any_refresh_before(keys: Path) -> None:
    signer, now = Signer.load(keys), datetime.now(UTC)
    publication = publish(keys, 8, unit_of("shop", "one"))
    for _ in range(5):
        publication = refresh_timestamp(publication, signer=signer, now=now)
    after_loss = publish(keys, 9, unit_of("shop", "one"))
    assert after_loss.version > publication.version


def test_a_sequence_must_grow(keys: Path) -> None:
    first = publish(keys, 2, unit_of("shop", "one"))
    with pytest.raises(ValueError, match="not above"):
        publish(keys, 2, unit_of("shop", "two"), previous=first)


def test_a_namespace_that_could_be_mistaken_for_another_target_is_not_signed(keys: Path) -> None:
    for name in ("_cluster", "a/b", "../index", "UPPER", "a\nb"):
        with pytest.raises(ValueError, match="no namespace"):
            publish(keys, 1, unit_of(name, "one"))


def test_keys_are_private_and_never_overwritten(tmp_path: Path) -> None:
    keys = make_keys(tmp_path / "keys")
    secrets = [*keys.rglob("*.key"), *keys.rglob("root/*.pem"), *keys.rglob("online/*.pem")]
    assert len(secrets) == 3 + 3 + 4
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in secrets)
    assert all(path.stat().st_mode & 0o777 == 0o700 for path in keys.rglob("*") if path.is_dir())
    with pytest.raises(FileExistsError):
        init_keys(keys, now=NOW)


def test_root_keys_may_be_away_until_something_is_rotated(tmp_path: Path) -> None:
    keys = make_keys(tmp_path / "keys", nodes=())
    away = tmp_path / "safe"
    (keys / "root").rename(away)
    Signer.load(keys)
    rotate(keys, "bins", now=NOW)
    with pytest.raises(StalledError, match="bring them back"):
        rotate(keys, "targets", now=NOW)
    away.rename(keys / "root")
    assert rotate(keys, "targets", now=NOW) == 2
    assert Signer.load(keys).root.version == 2


def test_two_of_three_root_keys_are_enough_to_rotate(tmp_path: Path) -> None:
    keys = make_keys(tmp_path / "keys", nodes=())
    next((keys / "root").iterdir()).unlink()
    assert rotate(keys, "root", now=NOW) == 2
    assert rotate(keys, "timestamp", now=NOW) == 3


def test_a_missing_key_says_what_to_do(tmp_path: Path) -> None:
    keys = make_keys(tmp_path / "keys", nodes=())
    next((keys / "online").glob("snapshot-*")).unlink()
    with pytest.raises(StalledError, match="tidegate keys rotate snapshot"):
        Signer.load(keys)


def test_the_command_line_makes_extends_rotates_and_shows(tmp_path: Path) -> None:
    run, place = CliRunner().invoke, str(tmp_path / "keys")
    made = run(keys_command, ["init", place, "--server-name", "localhost", "--node", "node-a"])
    assert made.exit_code == 0, made.output
    again = run(keys_command, ["init", place, "--server-name", "localhost"])
    assert again.exit_code == 1
    assert "in use" in again.output
    assert run(keys_command, ["add-node", place, "--node", "node-b"]).exit_code == 0
    assert run(keys_command, ["rotate", "timestamp", place]).exit_code == 0
    shown = run(keys_command, ["show", place]).output
    assert "root version 2" in shown
    assert "node node-b" in shown
    assert run(keys_command, ["add-node", place, "--node", "../x"]).exit_code == 1


def test_terms_survive_encoding_and_every_field_is_required() -> None:
    terms = trust.Terms(
        commit=COMMIT,
        sequence=9,
        stable=trust.ChannelTerms(digest="a" * 64),
        candidate=None,
        compiler_version="0.1.0",
        minimum_agent_version="0.1.0",
    )
    encoded = trust.encode_terms(terms)
    assert trust.decode_terms(encoded) == terms
    for field in encoded:
        without = {name: value for name, value in encoded.items() if name != field}
        with pytest.raises(RejectedBundle):
            trust.decode_terms(without)
    for channel in ("stable", "candidate"):
        fewer = {name: value for name, value in encoded["channels"].items() if name != channel}
        with pytest.raises(RejectedBundle):
            trust.decode_terms({**encoded, "channels": fewer})
    for wrong in (True, "9", 0, -1, 2.0, 1 << 60):
        with pytest.raises(RejectedBundle):
            trust.decode_terms({**encoded, "sequence": wrong})


def test_an_index_survives_encoding_and_nothing_else_is_one() -> None:
    names = ("", "blog", "shop")
    assert trust.decode_index(trust.encode_index(names)) == names
    assert trust.decode_index(trust.encode_index(())) == ()
    for wrong in (b"shop", b"shop\nblog\n", b"shop\nshop\n", b"../x\n", b"\xff\n", b"\n"):
        with pytest.raises(RejectedBundle):
            trust.decode_index(wrong)


def test_a_certificate_must_name_exactly_one_node() -> None:
    assert trust.node_of([trust.node_uri("a"), "https://elsewhere/"]) == "a"
    assert trust.node_of([trust.node_uri("a"), trust.node_uri("b")]) is None
    assert trust.node_of(["spiffe://elsewhere/node/a", trust.node_uri("")]) is None
