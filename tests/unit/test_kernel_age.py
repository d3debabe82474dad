"""What is said when a kernel refuses the programs."""

from __future__ import annotations

from errno import EINVAL

import pytest

from nodeagent.datapath.kernel_age import refusal


@pytest.mark.parametrize("release", ["5.10.0-39-amd64", "5.15.0", "6.0.19"])
def test_of_an_old_kernel_its_age_and_the_way_out_are_said(release: str) -> None:
    said, why, fix = refusal("loading it", release=release, errno=EINVAL).splitlines()
    assert said == "loading it: Invalid argument"
    assert why == f"why: this is Linux {release}; the programs need what 6.1 has"
    assert fix == "fix: run this node on Linux 6.1 or newer"


@pytest.mark.parametrize("release", ["6.1.0-56-amd64", "6.12.117+deb12", "10.0.1", "of our own"])
def test_of_any_other_only_what_it_said(release: str) -> None:
    assert refusal("loading it", release=release, errno=EINVAL) == "loading it: Invalid argument"
