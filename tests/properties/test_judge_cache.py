"""What is remembered between revisions never shows in a verdict."""

from __future__ import annotations

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st

from netpolicy.inventory import Inventory, Pod
from reconciler.files import SourceFile
from reconciler.judge import JudgeCache, judge

TEXTS = st.sampled_from(
    [
        f"""\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: {name}, namespace: shop}}
spec:
  endpointSelector: {{matchLabels: {{app: {app}}}}}
  ingress: [{rule}]
"""
        for name in ("a", "b")
        for app in ("web", "gone")
        for rule in ("", "{}", "{fromCIDR: [10.0.0.1/8]}", "{fromEntities: [all]}", "{x: 1}")
    ]
)
FILES = st.dictionaries(st.sampled_from(("one", "two", "three")), TEXTS, max_size=3)
INVENTORIES = st.sampled_from(
    [
        None,
        *(
            Inventory(pods=(Pod(namespace="shop", name="p", node="n", labels={"app": app}),))
            for app in ("web", "gone")
        ),
    ]
)
CLUSTERS = st.sampled_from(("default", "other"))


def _files(texts: dict[str, str]) -> list[SourceFile]:
    return [
        SourceFile(
            path=f"policies/{name}.yaml",
            blob_id=hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(),
            data=text.encode(),
        )
        for name, text in texts.items()
    ]


@settings(deadline=None)
@given(revisions=st.lists(st.tuples(FILES, INVENTORIES, CLUSTERS), min_size=2, max_size=5))
def test_a_verdict_is_the_same_with_and_without_the_cache(revisions):
    cache = JudgeCache()
    for texts, inventory, cluster in revisions:
        files = _files(texts)
        fresh = judge(files, cluster=cluster, inventory=inventory)
        assert judge(files, cluster=cluster, inventory=inventory, cache=cache) == fresh
