"""Copies of policies: what they say, and what is written and deleted for them."""

from __future__ import annotations

from netpolicy.rules import PolicyId, PolicyKind
from reconciler.files import SourceFile
from reconciler.mirror import Copy, Key, copies_of, next_step
from reconciler.mirror.objects import MAX_NAME, copy_name
from reconciler.mirror.plan import FREE_DELETIONS
from reconciler.objects import read_policies

TEXT = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: web
  namespace: shop
  annotations: {tidegate.dev/mode: canary}
specs:
  - {endpointSelector: {}, ingress: []}
  - {endpointSelector: {}, egress: []}
---
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: base}
spec: {endpointSelector: {}, ingress: []}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec: {podSelector: {}, policyTypes: [Ingress]}
"""


def many(count: int) -> dict[Key, Copy]:
    return {("shop", f"cnp.{number:03}"): Copy(spec={"name": number}) for number in range(count)}


def test_each_document_has_a_copy_with_its_authors_words() -> None:
    file = SourceFile(path="policies/shop.yaml", blob_id="1", data=TEXT.encode())
    copies = copies_of(read_policies([file]).objects, home="tidegate-system")
    assert set(copies) == {
        ("shop", "cnp.web"),
        ("shop", "netpol.web"),
        ("tidegate-system", "ccnp.base"),
    }
    spec = copies["shop", "cnp.web"].spec
    assert (spec["kind"], spec["name"], spec["mode"]) == ("CiliumNetworkPolicy", "web", "canary")
    assert spec["path"] == "policies/shop.yaml"
    assert spec["manifest"]["specs"][1] == {"endpointSelector": {}, "egress": []}


def test_names_that_are_too_long_stay_apart() -> None:
    ids = [PolicyId(kind=PolicyKind.CCNP, namespace="", name="x" * 252 + end) for end in ("a", "b")]
    names = {copy_name(each) for each in ids}
    assert len(names) == 2
    assert all(len(name) == MAX_NAME for name in names)


def test_what_differs_is_written_and_what_is_nobodys_goes() -> None:
    found = many(3)
    wanted = {**many(2), ("shop", "cnp.new"): Copy(spec={})}
    wanted["shop", "cnp.001"] = Copy(spec={"name": "another"})
    step = next_step(wanted, found, may_delete_all=False)
    assert step.apply == (("shop", "cnp.001"), ("shop", "cnp.new"))
    assert (step.delete, step.held) == ((("shop", "cnp.002"),), 0)
    assert next_step(wanted, wanted, may_delete_all=False) == next_step({}, {}, may_delete_all=True)


def test_a_surprising_number_is_deleted_only_when_somebody_says_so() -> None:
    found = many(FREE_DELETIONS + 1)
    held = next_step({}, found, may_delete_all=False)
    assert (held.delete, held.held) == ((), FREE_DELETIONS + 1)
    assert len(next_step({}, found, may_delete_all=True).delete) == FREE_DELETIONS + 1
    most = many(100)
    kept = dict(list(most.items())[:75])
    assert len(next_step(kept, most, may_delete_all=False).delete) == 25
