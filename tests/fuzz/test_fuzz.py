"""A short run of every fuzz target, and whole policies with faults in them."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.objects.schema.cilium import CILIUM_POLICY
from reconciler.objects.schema.kubernetes import NETWORK_POLICY
from tests.fuzz.fuzz_policies import feed_policies
from tests.fuzz.run import fuzz
from tests.fuzz.targets import all_targets
from tests.support.schema_documents import mappings

RUNS = 400
SPECS = st.one_of(
    st.tuples(
        st.just("cilium.io/v2"),
        st.sampled_from(("CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy")),
        mappings(CILIUM_POLICY["spec"]["schema"]),
    ),
    st.tuples(
        st.just("networking.k8s.io/v1"),
        st.just("NetworkPolicy"),
        mappings(NETWORK_POLICY["spec"]["schema"]),
    ),
)


@pytest.mark.slow
@pytest.mark.parametrize("name", all_targets())
def test_no_mutation_of_a_good_input_breaks_a_reader(name: str) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    target = all_targets()[name]
    failure = fuzz(target, seed=seed, runs=len(target.seeds) + RUNS)
    assert failure is None, f"seed {seed}: {failure.data[:2000]!r}\n{failure.error[-4000:]}"


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(spec=SPECS)
def test_no_policy_that_nearly_fits_its_schema_breaks_a_reader(spec: tuple[str, str, Any]) -> None:
    version, kind, inner = spec
    policy = {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": "p", "namespace": "shop"},
        "spec": inner,
    }
    feed_policies(json.dumps(policy).encode())
