"""What a revision's tree may hold: read it, refuse it by name, and never load what is too large."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from netpolicy.errors import StalledError
from reconciler.source import GitSource, RevisionFiles, SourceConfig, SourceLimits
from tests.support.git_server_repository import (
    DIRECTORY,
    REGULAR,
    SUBMODULE,
    SYMLINK,
    PolicyRepository,
)

POLICY = {"tidegate.yaml": "a: 1\n", "policies/web.yaml": "kind: Policy\n"}


class LocalWorld:
    """A repository on disk, and a source that fetches it from there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.repository = PolicyRepository(directory / "policy.git")
        self.config = SourceConfig(url=f"file://{directory}/policy.git")
        self.sources: list[GitSource] = []

    def read(
        self, *, config: SourceConfig | None = None, known: RevisionFiles | None = None
    ) -> RevisionFiles:
        folder = self.directory / f"source-{len(self.sources)}"
        source = GitSource(config or self.config, folder)
        self.sources.append(source)
        return source.read(source.fetch().commit, known=known)

    def limited(self, **limits: int) -> SourceConfig:
        return replace(self.config, limits=SourceLimits(**limits))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LocalWorld]:
    made = LocalWorld(tmp_path)
    yield made
    for source in made.sources:
        source.close()


def codes(read: RevisionFiles) -> list[str]:
    if read.diagnostics:
        assert read.files == ()
    return [diagnostic.code for diagnostic in read.diagnostics]


def test_only_policies_tests_and_settings_are_read(world: LocalWorld) -> None:
    world.repository.commit(
        {**POLICY, "tests/web.yaml": "t", "README.md": "r", "docs/policies/x.yaml": "x"}
    )
    world.repository.plant(b"vendor", mode=SUBMODULE, object_id="1" * 40)
    world.repository.plant(b"link", mode=SYMLINK, content=b"/etc/passwd")
    read = world.read()
    assert [file.path for file in read.files] == [
        "policies/web.yaml",
        "tests/web.yaml",
        "tidegate.yaml",
    ]
    assert read.files[0].data == b"kind: Policy\n"
    assert read.diagnostics == ()


def test_a_configured_folder_is_the_root_of_paths(world: LocalWorld) -> None:
    world.repository.commit({"clusters/eu/policies/a.yaml": "a", "policies/b.yaml": "b"})
    read = world.read(config=replace(world.config, path="clusters/eu"))
    assert [file.path for file in read.files] == ["policies/a.yaml"]


def test_a_configured_folder_that_is_missing_is_an_error(world: LocalWorld) -> None:
    world.repository.commit(POLICY)
    assert codes(world.read(config=replace(world.config, path="clusters/eu"))) == ["TG010"]


def test_a_change_reads_only_the_changed_blobs(world: LocalWorld) -> None:
    world.repository.commit({**POLICY, "policies/b.yaml": "b"})
    known = world.read()
    world.repository.commit({"policies/b.yaml": "c"})
    read = world.read(known=known)
    reused = {file.path for file in read.files if any(file.data is old.data for old in known.files)}
    assert reused == {"policies/web.yaml", "tidegate.yaml"}
    assert {file.path: file.data for file in read.files}["policies/b.yaml"] == b"c"


@pytest.mark.parametrize(
    "name",
    [b"..", b".", b".git", b".GIT", b"a/b", b"a\\b", b"\xff.yaml", b"a\n.yaml", b"x" * 256,
     "\u202egnp.yaml".encode()],
)  # fmt: skip
def test_a_name_that_is_not_safe_is_refused(world: LocalWorld, name: bytes) -> None:
    world.repository.commit(POLICY)
    world.repository.plant(b"policies", name, mode=REGULAR, content=b"x")
    read = world.read()
    assert codes(read) == ["TG001"]
    assert read.diagnostics[0].place.path.isprintable()


def test_a_folder_with_an_unsafe_name_is_not_entered(world: LocalWorld) -> None:
    world.repository.commit(POLICY)
    world.repository.plant(b"policies", b"..", b"tidegate.yaml", mode=REGULAR, content=b"x")
    assert codes(world.read()) == ["TG001"]


@pytest.mark.parametrize("names", [(b"policies", b"l.yaml"), (b"policies",), (b"tidegate.yaml",)])
def test_a_symbolic_link_is_refused(world: LocalWorld, names: tuple[bytes, ...]) -> None:
    world.repository.commit({"README.md": "r"})
    world.repository.plant(*names, mode=SYMLINK, content=b"../../etc/passwd")
    assert codes(world.read()) == ["TG002"]


def test_a_submodule_is_refused(world: LocalWorld) -> None:
    world.repository.commit(POLICY)
    world.repository.plant(b"policies", b"shared", mode=SUBMODULE, object_id="1" * 40)
    assert codes(world.read()) == ["TG003"]


def test_an_lfs_pointer_is_refused(world: LocalWorld) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"
    world.repository.commit({**POLICY, "policies/big.yaml": pointer})
    assert codes(world.read()) == ["TG004"]


def test_a_file_over_the_limit_is_refused(world: LocalWorld) -> None:
    world.repository.commit({**POLICY, "policies/big.yaml": "x" * 101})
    assert codes(world.read(config=world.limited(max_file_bytes=100))) == ["TG005"]


@pytest.mark.slow
def test_256_megabytes_of_zeros_are_refused_without_being_loaded(world: LocalWorld) -> None:
    world.repository.commit({**POLICY, "policies/zeros.yaml": bytes(256 * 1024 * 1024)})
    # Forget the peak of making it.
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak_kilobytes()
    assert codes(world.read()) == ["TG005"]
    assert _peak_kilobytes() - before < 64 * 1024


def _peak_kilobytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def test_too_many_files_are_refused(world: LocalWorld) -> None:
    world.repository.commit({**POLICY, **{f"policies/{n}.yaml": "x" for n in range(20)}})
    assert codes(world.read(config=world.limited(max_files=10))) == ["TG006"]


def test_too_many_bytes_are_refused(world: LocalWorld) -> None:
    world.repository.commit({**POLICY, **{f"policies/{n}.yaml": f"{n}" * 50 for n in range(9)}})
    assert codes(world.read(config=world.limited(max_total_bytes=200))) == ["TG007"]


def test_a_tree_that_repeats_itself_ends_in_bounded_time(world: LocalWorld) -> None:
    world.repository.commit(POLICY)
    blob = str(world.repository.git.create_blob(b"x"))
    names = [b"%d" % n for n in range(10)]
    tree = world.repository.write_tree((REGULAR, name, blob) for name in names)
    for _ in range(9):
        tree = world.repository.write_tree((DIRECTORY, name, tree) for name in names)
    root = world.repository.write_tree([(DIRECTORY, b"policies", tree)])
    world.repository.replace_tree(root)
    assert codes(world.read()) == ["TG006"]


def test_folders_nested_too_deep_are_refused(world: LocalWorld) -> None:
    world.repository.commit({"policies/" + "d/" * 40 + "x.yaml": "x"})
    assert codes(world.read()) == ["TG012"]


def test_paths_that_differ_by_case_only_are_refused(world: LocalWorld) -> None:
    world.repository.commit({**POLICY, "policies/WEB.yaml": "other"})
    assert codes(world.read()) == ["TG008"]


def test_a_file_in_a_folders_place_is_refused(world: LocalWorld) -> None:
    world.repository.commit({"policies": "x"})
    assert codes(world.read()) == ["TG009"]


def test_a_folder_in_the_settings_place_is_refused(world: LocalWorld) -> None:
    world.repository.commit({"tidegate.yaml/x": "x"})
    assert codes(world.read()) == ["TG009"]


@pytest.mark.parametrize("path", ["Policies/x.yaml", "policy/x.yaml", "tidegate.yml"])
def test_a_misspelt_name_is_not_ignored_in_silence(world: LocalWorld, path: str) -> None:
    world.repository.commit({path: "x"})
    assert codes(world.read()) == ["TG011"]


def test_faults_are_all_shown_but_their_number_is_bounded(world: LocalWorld) -> None:
    lfs = "version https://git-lfs.github.com/spec/v1\n"
    world.repository.commit({f"policies/{n:03}.yaml": f"{lfs}{n}" for n in range(150)})
    assert len(world.read().diagnostics) == 100


def test_a_commit_that_was_never_fetched_stalls(world: LocalWorld) -> None:
    world.repository.commit(POLICY)
    world.read()
    for commit in ("1" * 40, "main", "-x"):
        with pytest.raises(StalledError):
            world.sources[0].read(commit)


@pytest.mark.parametrize(
    "url",
    ["http://host/x", "git://host/x", "https://user:secret@host/x", "https://token@host/x",
     "https://host/x?token=secret", "https:///x", "host", "ssh://host/a\nb", "ext::sh -c id"],
)  # fmt: skip
def test_a_url_that_is_unsafe_or_holds_a_secret_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(StalledError) as caught:
        SourceConfig(url=url)
    assert caught.value.reason == "InvalidSpec"
    assert "secret" not in str(caught.value)
    assert "token@" not in str(caught.value)


@pytest.mark.parametrize(
    "branch", ["", "a..b", "x.lock", "-x", "a b", "a:b", "*", "a/", "/a", "@{"]
)
def test_a_branch_that_git_would_not_name_is_refused(branch: str) -> None:
    with pytest.raises(StalledError):
        SourceConfig(url="https://host/x", branch=branch)


@pytest.mark.parametrize(
    ("url", "shown", "scheme"),
    [
        ("git@host:team/policy.git", "host:team/policy.git", "ssh"),
        ("ssh://git@host:2222/policy.git", "ssh://host:2222/policy.git", "ssh"),
        ("https://host/policy.git", "https://host/policy.git", "https"),
        ("/srv/policy.git", "/srv/policy.git", "file"),
    ],
)
def test_a_url_is_shown_without_its_user(url: str, shown: str, scheme: str) -> None:
    config = SourceConfig(url=url)
    assert (config.shown_url, config.scheme) == (shown, scheme)
