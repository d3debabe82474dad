"""What the operator of a cluster says beside the repository's own settings."""

from __future__ import annotations

from reconciler.files import SourceFile
from reconciler.rollout.plan import Plan, Promotion
from reconciler.settings import SETTINGS_PATH, Settings, read_settings

PLAN = Plan(promotion=Promotion.MANUAL)


def settings(text: str | None, site: Settings) -> Settings:
    files = [] if text is None else [SourceFile(path=SETTINGS_PATH, blob_id="", data=text.encode())]
    found, faults = read_settings(files, site=site)
    assert not faults
    return found


def test_the_sites_rollout_counts_where_the_repository_has_none() -> None:
    site = Settings(rollout=PLAN)
    for text in (None, "", "allowEmpty: true\n"):
        assert settings(text, site).rollout == PLAN
    own = settings("rollout: {shadow: {soak: 1m}}\n", site).rollout
    assert own.promotion is Promotion.AUTOMATIC
    assert own.stages


def test_the_sites_ownership_counts_in_place_of_the_repositorys() -> None:
    own = "ownership: {policies: ['*']}\n"
    site = Settings(ownership={"policies/shop": ("shop",)})
    assert settings(own, site).ownership == {"policies/shop": ("shop",)}
    assert settings(own, Settings()).ownership == {"policies": ("*",)}
