"""Publications: what is signed anew, what is kept, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from netpolicy import terms, trust
from netpolicy.bundle import PackedUnit
from netpolicy.encryption import OFF, Encryption
from netpolicy.errors import RejectedBundle, StalledError
from netpolicy.node_choice import NodeChoice
from reconciler.sign import Signer, init_keys, refresh_timestamp, rotate, sign_publication, units_of
from reconciler.sign.keys_cli import keys as keys_command
from tests.support.push_fleet import COMMIT, candidate_of, make_keys, publish, unit_of

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


STRICT = Encryption(enabled=True, strict=True, rotation_seconds=86400)
TERMS = terms.Terms(
    sequence=9,
    stable=terms.ChannelTerms(digest="a" * 64, commit=COMMIT, encryption=OFF),
    candidate=terms.CandidateTerms(
        digest="b" * 64,
        commit="d" * 40,
        encryption=STRICT,
        nodes=NodeChoice(labels=(("canary", "yes"), ("zone", "a")), percent=12.5, salt="d" * 40),
    ),
    canary_nodes=(("canary", "yes"),),
    confirm_seconds=30,
    compiler_version="0.1.0",
    minimum_agent_version="0.1.0",
)


def paths_of(value: object, *above: str) -> Iterator[tuple[str, ...]]:
    """Every field of a document, and every field of its fields."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield (*above, name)
            yield from paths_of(inner, *above, name)


def changed(document: Any, path: tuple[str, ...], *value: Any) -> Any:
    """The document with a field replaced, or without it."""
    copy = deepcopy(document)
    inner = copy
    for name in path[:-1]:
        inner = inner[name]
    if value:
        inner[path[-1]] = value[0]
    else:
        del inner[path[-1]]
    return copy


def test_terms_survive_encoding_and_every_field_is_required() -> None:
    encoded = terms.encode_terms(TERMS)
    assert terms.decode_terms(json.loads(json.dumps(encoded))) == TERMS
    assert terms.decode_terms(terms.encode_terms(replace(TERMS, candidate=None))).candidate is None
    for path in paths_of(encoded):
        if path[-2:-1] in (("canary_nodes",), ("labels",)):
            continue  # a label less is another choice, and one that was not signed
        with pytest.raises(RejectedBundle):
            terms.decode_terms(changed(encoded, path))


def test_a_field_of_signed_terms_with_a_wrong_value_is_refused() -> None:
    encoded = terms.encode_terms(TERMS)
    for path in paths_of(encoded):
        of_encryption = "encryption" in path[:-1]
        for wrong in ("yes" if of_encryption else True, -1, 2.5, 1 << 60, [], "\n" * 400):
            if path[-1] == "pod_cidrs" and wrong == []:
                continue  # no blocks: another choice, as above
            with pytest.raises(RejectedBundle):
                terms.decode_terms(changed(encoded, path, wrong))


def test_a_choice_that_cannot_be_signed_exactly_is_not_signed() -> None:
    candidate = TERMS.candidate
    assert candidate is not None
    for choice in (
        NodeChoice(percent=1 / 3),
        NodeChoice(percent=100.001),
        NodeChoice(percent=-1),
        NodeChoice(labels=(("b", "1"), ("a", "1"))),
        NodeChoice(labels=(("a", "1"), ("a", "2"))),
        NodeChoice(salt="s" * 65),
    ):
        with pytest.raises(ValueError, match=r"choice|percent|salt"):
            terms.encode_terms(replace(TERMS, candidate=replace(candidate, nodes=choice)))


def test_an_index_survives_encoding_and_nothing_else_is_one() -> None:
    names = ("", "blog", "shop")
    assert tuple(trust.decode_index("stable", trust.encode_index(names))) == names
    assert trust.decode_index("stable", trust.encode_index(())) == {}
    for wrong in (b"shop", b"shop\nblog\n", b"shop\nshop\n", b"../x\n", b"\xff\n", b"\n", b"=x\n"):
        with pytest.raises(RejectedBundle):
            trust.decode_index("stable", wrong)


def test_a_candidates_index_says_which_units_are_the_stable_ones() -> None:
    index = trust.encode_index(("shop",), as_stable=("", "blog"))
    assert trust.decode_index("candidate", index) == {
        "": "stable/unit/_cluster",
        "blog": "stable/unit/blog",
        "shop": "candidate/unit/shop",
    }
    for wrong in (b"==x\n", b"=shop\nshop\n", b"=\n"):
        with pytest.raises(RejectedBundle):
            trust.decode_index("candidate", wrong)


def test_a_candidate_is_signed_beside_the_stable_channel_and_shares_its_units(keys: Path) -> None:
    first = publish(keys, 1, *many())
    candidate = candidate_of(*many(changed="ns-7"), nodes=NodeChoice(percent=25))
    second = publish(keys, 2, *many(), previous=first, candidate=candidate, confirm_seconds=20)
    assert (second.digest, second.revision) == (first.digest, first.revision)
    signed = second.terms.candidate
    assert signed is not None
    assert (signed.commit, signed.nodes) == (candidate.revision, candidate.nodes)
    assert signed.digest == publish(keys, 3, *many(changed="ns-7")).digest
    assert second.terms.confirm_seconds == 20
    assert len(second.units) == len(first.units) + 2  # the changed unit and the candidate's index
    renewed = [name for name in second.metadata if ".bin-" in name and name not in first.metadata]
    assert 1 <= len(renewed) <= 2


def test_units_are_read_back_as_they_were_signed(keys: Path) -> None:
    stable = {unit.namespace: unit for unit in many()}
    candidate = candidate_of(*many(changed="ns-7")[5:])
    publication = publish(keys, 2, *stable.values(), candidate=candidate)
    assert units_of(publication, trust.STABLE) == stable
    assert units_of(publication, trust.CANDIDATE) == candidate.units
    assert units_of(publish(keys, 2, *many()), trust.CANDIDATE) == {}


def test_a_certificate_must_name_exactly_one_node() -> None:
    assert trust.node_of([trust.node_uri("a"), "https://elsewhere/"]) == "a"
    assert trust.node_of([trust.node_uri("a"), trust.node_uri("b")]) is None
    assert trust.node_of(["spiffe://elsewhere/node/a", trust.node_uri("")]) is None
