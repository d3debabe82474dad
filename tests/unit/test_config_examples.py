"""The example files hold every field there is, and show what counts where a field is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from netpolicy.errors import StalledError, render
from nodeagent.config import AgentConfig, decode_config
from reconciler.config import ReconcilerConfig, load_config

EXAMPLES = Path(__file__).parents[2] / "docs" / "operating" / "examples"
AGENT, RECONCILER = EXAMPLES / "agent.yaml", EXAMPLES / "reconciler.yaml"
UNKNOWN = "no-such-field"


def _agent(text: str, folder: Path) -> AgentConfig | str:
    config, faults = decode_config(folder / "agent.yaml", text.encode())
    return config if config is not None else "\n".join(map(render, faults))


def _reconciler(text: str, folder: Path) -> ReconcilerConfig | str:
    path = folder / "reconciler.yaml"
    path.write_text(text)
    try:
        return load_config(path)
    except StalledError as error:
        return str(error)


PROGRAMS = [(AGENT, _agent), (RECONCILER, _reconciler)]
Read = Callable[[str, Path], Any]


def _sections(document: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for key, value in document.items():
        if isinstance(value, dict):
            yield from _sections(value, (*path, key))


def _with_unknown(document: Any, path: tuple[str, ...]) -> str:
    changed = yaml.safe_load(yaml.safe_dump(document))
    section = changed
    for key in path:
        section = section[key]
    section[UNKNOWN] = 1
    return yaml.safe_dump(changed)


@pytest.mark.parametrize(("example", "read"), PROGRAMS, ids=["agent", "reconciler"])
def test_an_example_is_accepted(example: Path, read: Read, tmp_path: Path) -> None:
    assert not isinstance(found := read(example.read_text(), tmp_path), str), found


@pytest.mark.parametrize(("example", "read"), PROGRAMS, ids=["agent", "reconciler"])
def test_an_example_names_every_field(example: Path, read: Read, tmp_path: Path) -> None:
    text = example.read_text()
    document = yaml.safe_load(text)
    for path in _sections(document):
        complaint = read(_with_unknown(document, path), tmp_path)
        assert UNKNOWN in complaint, f"{path} takes a field that nobody knows"
        (known,) = (line for line in complaint.splitlines() if line.startswith("fix: known: "))
        missing = [
            name
            for name in known.removeprefix("fix: known: ").split(", ")
            if f"{name}:" not in text
        ]
        assert not missing, (
            f"{example.name} does not show {missing} of {'.'.join(path) or 'the top'}"
        )


def test_the_agents_example_shows_what_counts_otherwise(tmp_path: Path) -> None:
    shown = _agent(AGENT.read_text(), tmp_path)
    least = _agent("node: node-a\ninventory: /etc/tidegate/inventory.yaml\n", tmp_path)
    assert _differing(shown, least) == {"reconciler", "cni", "envoy"}


def test_the_reconcilers_example_shows_what_counts_otherwise(tmp_path: Path) -> None:
    given = yaml.safe_load(RECONCILER.read_text())
    least = {key: given[key] for key in ("keys", "inventory")}
    least["repository"] = {"url": given["repository"]["url"]}
    shown = _reconciler(RECONCILER.read_text(), tmp_path)
    otherwise = _reconciler(yaml.safe_dump(least), tmp_path)
    assert _differing(shown, otherwise) == {"following", "webhook"}
    assert isinstance(shown, ReconcilerConfig)
    assert isinstance(otherwise, ReconcilerConfig)
    assert _differing(shown.following, otherwise.following) == {
        "repository",
        "notifications",
        "verification",
    }
    assert shown.following is not None
    assert otherwise.following is not None
    before, after = otherwise.following.repository, shown.following.repository
    assert _differing(before, after) == {"ca_file", "username", "password_file"}


def _differing(first: Any, second: Any) -> set[str]:
    assert type(first) is type(second), (first, second)
    names = (field.name for field in fields(first))
    return {name for name in names if getattr(first, name) != getattr(second, name)}


@pytest.mark.parametrize("section", ["envoy", "cni"])
def test_an_empty_section_of_the_agents_file_is_enough(section: str, tmp_path: Path) -> None:
    least = "node: node-a\ninventory: inventory.yaml\n"
    config = _agent(f"{least}{section}: {{}}\n", tmp_path)
    assert getattr(config, section) is not None
    assert getattr(_agent(least, tmp_path), section) is None


@pytest.mark.parametrize(
    ("told", "fence"),
    [
        ("", True),
        ("fence: false", False),
        ("cni: {}", True),
        ("cni: {fence: false}", False),
        ("fence: false\ncni: {}", False),
        ("fence: true\ncni: {fence: false}", True),
    ],
)
def test_there_is_a_fence_unless_it_is_told_otherwise(
    told: str, fence: bool, tmp_path: Path
) -> None:
    config = _agent(f"node: node-a\ninventory: inventory.yaml\n{told}\n", tmp_path)
    assert isinstance(config, AgentConfig)
    assert config.fence is fence
