"""Secrets as a cluster mounts them: keys that lead to the version of the day, which changes at a stroke."""

from __future__ import annotations

from pathlib import Path

import pytest

from netpolicy.rules import SecretRef
from nodeagent.envoy.secret_files import MAX_SECRET_BYTES, read_secrets

WEB = SecretRef(namespace="shop", name="web")
PLACE = ("shop", "web")


def mount(folder: Path, version: str, **keys: str) -> None:
    """Bring a version of shop/web in, as a kubelet does."""
    place = folder / "shop" / "web"
    held = place / f"..{version}"
    held.mkdir(parents=True)
    for key, value in keys.items():
        (held / key).write_text(value)
        if not (place / key).is_symlink():
            (place / key).symlink_to(Path("..data") / key)
    (place / "..new").symlink_to(held.name)
    (place / "..new").replace(place / "..data")


def test_a_mounted_secret_is_read_and_so_is_its_next_version(tmp_path: Path) -> None:
    mount(tmp_path, "one", token="first\n", name="shop")
    assert read_secrets(tmp_path, [WEB]) == {PLACE: {"token": "first", "name": "shop"}}
    mount(tmp_path, "two", token="second", name="shop")
    assert read_secrets(tmp_path, [WEB]) == {PLACE: {"token": "second", "name": "shop"}}


def test_a_secret_that_is_not_there_or_holds_too_much_holds_nothing(tmp_path: Path) -> None:
    assert read_secrets(tmp_path, [WEB]) == {}
    mount(tmp_path, "one", token="x" * (MAX_SECRET_BYTES + 1))
    assert read_secrets(tmp_path, [WEB]) == {}


@pytest.mark.parametrize("name", ["..", "../web", "/etc", ""])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("value")
    asked = SecretRef(namespace=name, name="secret")
    assert ("..", "secret") not in read_secrets(tmp_path / "secrets", [asked])
    assert read_secrets(tmp_path / "secrets", [SecretRef(namespace="shop", name=name)]) == {}
