"""What is remembered of policies among others never shows in the warnings."""

from __future__ import annotations

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st

from netpolicy.inventory import Inventory, Pod
from reconciler.files import SourceFile
from reconciler.judge import JudgeCache, judge

PEER = "{matchLabels: {app: db, 'k8s:io.kubernetes.pod.namespace': blog}}"
SECTIONS = (
    f"egress: [{{toEndpoints: [{PEER}]}}]",
    "egress: [{toPorts: [{ports: [{port: '53'}]}]}]",
    "ingress: [{fromEntities: [cluster]}]",
    "ingress: [{fromCIDR: [10.0.0.0/8]}]",
    "ingressDeny: [{fromEntities: [all]}]",
)
TEXTS = st.builds(
    lambda namespace, app, section: (
        f"""\
apiVersion: cilium.io/v2
kind: {"CiliumNetworkPolicy" if namespace else "CiliumClusterwideNetworkPolicy"}
metadata: {{name: NAME{", namespace: " + namespace if namespace else ""}}}
spec:
  endpointSelector: {{{"matchLabels: {app: " + app + "}" if app else ""}}}
  {section}
"""
    ),
    st.sampled_from(("shop", "blog", "")),
    st.sampled_from(("web", "db", "")),
    st.sampled_from(SECTIONS),
)
FILES = st.dictionaries(st.sampled_from("abcd"), TEXTS, max_size=4)
POD = Pod(namespace="shop", name="p", node="n", addresses=("10.0.0.1",))
INVENTORIES = st.sampled_from([None, Inventory(), Inventory(pods=(POD,))])


@settings(deadline=None)
@given(revisions=st.lists(st.tuples(FILES, INVENTORIES), min_size=2, max_size=6))
def test_the_warnings_are_the_same_with_and_without_the_memo(
    revisions: list[tuple[dict[str, str], Inventory | None]],
) -> None:
    cache = JudgeCache()
    for texts, inventory in revisions:
        files = [
            SourceFile(
                path=f"policies/{name}.yaml",
                blob_id=hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(),
                data=text.replace("NAME", name).encode(),
            )
            for name, text in texts.items()
        ]
        fresh = judge(files, inventory=inventory)
        assert judge(files, inventory=inventory, cache=cache) == fresh
        assert fresh.accepted
