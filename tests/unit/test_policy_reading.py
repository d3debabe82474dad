"""Reading, judging and comparing policies, where more than one bad file is needed to show it."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from netpolicy.errors import Diagnostic, Severity
from netpolicy.inventory import Inventory, Pod
from netpolicy.rules import Mode
from netpolicy.yaml_reader import Limits, read_documents
from reconciler.compile import compile_policies
from reconciler.compile.difference import difference
from reconciler.files import SourceFile
from reconciler.objects import ReadCache, read_policies
from reconciler.validate import ValidationContext, validate


def policy(name: str = "p", namespace: str = "shop", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"endpointSelector": {}, **spec},
    }


def source(path: str, *documents: dict[str, Any]) -> SourceFile:
    text = "\n---\n".join(map(json.dumps, documents))
    return SourceFile(path=path, blob_id=str(hash(text)), data=text.encode())


def units(*documents: dict[str, Any]) -> Any:
    reading = read_policies([source("policies/p.yaml", *documents)])
    assert not reading.diagnostics
    return compile_policies(reading.objects)


def judged(*files: SourceFile, **context: Any) -> list[Diagnostic]:
    reading = read_policies(files)
    found = validate(reading.objects, context=ValidationContext(**context))
    return [*reading.diagnostics, *found]


def codes(diagnostics: list[Diagnostic]) -> list[str]:
    return [diagnostic.code for diagnostic in diagnostics]


ALLOW = {"ingress": [{"fromEntities": ["all"]}]}


def test_only_yaml_files_under_policies_are_read():
    paths = ("README.md", "tidegate.yaml", "policies/README.md", "other/p.yaml")
    assert judged(*(SourceFile(path=p, blob_id="", data=b"[") for p in paths)) == []
    assert codes(judged(SourceFile(path="policies/a/b.YML", blob_id="", data=b"[]"))) == ["TG102"]


def test_a_policy_in_two_files_is_refused_and_both_are_named():
    first, second = (source(f"policies/{n}.yaml", policy(**ALLOW)) for n in "ab")
    (found,) = judged(second, first)
    assert found.code == "TG200"
    assert found.place.path == "policies/b.yaml"
    assert "policies/a.yaml:1:" in found.why


def test_a_folder_may_name_only_the_namespaces_it_owns():
    owned = {"policies/shop": ("shop",), "policies/shop/deep": ("blog",), "policies/x": ("*",)}
    wide = policy(**ALLOW) | {"kind": "CiliumClusterwideNetworkPolicy", "metadata": {"name": "w"}}

    def said(path: str, document: dict[str, Any]) -> list[str]:
        return codes(judged(source(path, document), ownership=owned))

    assert said("policies/shop/a.yaml", policy(**ALLOW)) == []
    assert said("policies/shop/a.yaml", policy(namespace="blog", **ALLOW)) == ["TG202"]
    assert said("policies/shop/deep/a.yaml", policy(**ALLOW)) == ["TG202"]
    assert said("policies/shop/a.yaml", wide) == ["TG202"]
    assert said("policies/x/a.yaml", wide) == []
    assert said("policies/shopping/a.yaml", policy(namespace="blog", **ALLOW)) == []


def test_a_selector_that_matches_no_pod_is_warned_of_only_with_an_inventory():
    pods = (Pod(namespace="shop", name="a", node="n", labels={"app": "a"}),)
    document = policy(
        ingress=[
            {"fromEndpoints": [{"matchLabels": {"app": "a"}}, {"matchLabels": {"app": "typo"}}]},
            {"fromEndpoints": [{"matchLabels": {"reserved:host": ""}}]},
        ]
    )
    file = source("policies/a.yaml", document)
    (found,) = judged(file, inventory=Inventory(pods=pods))
    assert (found.code, found.severity) == ("TG308", Severity.WARNING)
    assert judged(file) == []


def test_a_cached_file_reads_the_same_and_is_not_read_again():
    cache = ReadCache()
    good = source("policies/a.yaml", policy(**ALLOW))
    first = read_policies([good], cache=cache)
    forged = SourceFile(path=good.path, blob_id=good.blob_id, data=b"not read")
    assert read_policies([forged], cache=cache) == first
    changed = SourceFile(path=good.path, blob_id="other", data=b"[]")
    assert codes(list(read_policies([changed], cache=cache).diagnostics)) == ["TG102"]


def test_the_cache_forgets_what_the_last_revision_did_not_have():
    cache = ReadCache()
    files = [source(f"policies/{n}.yaml", policy(n, **ALLOW)) for n in "abc"]
    read_policies(files, cache=cache)
    assert all(cache.get(file) for file in files)
    read_policies(files[1:], cache=cache)
    assert [cache.get(file) is None for file in files] == [True, False, False]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"a: " + b"x" * (1 << 20), "TG050"),
        (b"a: \xff", "TG051"),
        ("a: \u202e".encode(), "TG052"),
        (b"[" * 100_000, "TG054"),
        (b"a: [" + b"1," * 1001 + b"]", "TG056"),
        (b"&a x: 1\n" + b"".join(b"&a x%d: 1\n" % n for n in range(60)), "TG063"),
    ],
)
def test_a_file_beyond_its_bounds_is_refused(data: bytes, code: str):
    documents, faults = read_documents("p.yaml", data)
    assert documents == ()
    assert faults[-1].code == code


def test_a_file_with_too_many_values_is_refused():
    row = b"- [" + b"1," * 900 + b"]\n"
    assert read_documents("p.yaml", row * 30)[1][-1].code == "TG055"
    assert not read_documents("p.yaml", row * 30, limits=Limits(nodes=1_000_000))[1]


def test_a_list_of_many_bad_entries_is_refused_in_bounded_time():
    bad = policy(ingress=[{"fromCIDR": ["x"] * 1000}] * 15)
    started = time.monotonic()
    found = judged(source("policies/a.yaml", bad))
    assert set(codes(found)) == {"TG111"}
    assert time.monotonic() - started < 10


def test_more_than_forty_ports_are_refused():
    ports = [{"port": str(n)} for n in range(1, 42)]
    document = policy(ingress=[{"toPorts": [{"ports": ports}]}])
    assert codes(judged(source("policies/a.yaml", document))) == ["TG109"]


def test_an_empty_list_of_server_names_is_no_name():
    ports = {"ports": [{"port": "443", "protocol": "TCP"}], "serverNames": []}
    document = policy(egress=[{"toPorts": [ports]}])
    assert codes(judged(source("policies/a.yaml", document))) == ["TG109"]


def test_equal_meaning_is_no_difference_whatever_the_order_of_rules():
    one = {"fromEntities": ["host"]}
    two = {"fromEntities": ["world"]}
    found = difference(units(policy(ingress=[one, two])), units(policy(ingress=[two, one])))
    assert not found
    assert found.to_text() == "no policy changes"


def test_a_difference_names_rules_and_default_deny_in_words():
    web = {"fromEndpoints": [{"matchLabels": {"app": "web"}}]}
    port = {"toPorts": [{"ports": [{"port": "80", "protocol": "TCP"}]}]}
    before = units(policy("kept", ingress=[web]), policy("gone", egress=[{}]))
    changed = policy("kept", ingress=[{**web, **port}], egress=[{"toCIDR": ["10.0.0.0/8"]}])
    changed["metadata"]["annotations"] = {"tidegate.dev/mode": "dry-run"}
    found = difference(before, units(changed, policy("new", namespace="blog", ingress=[{}])))
    assert found
    assert found.to_text().splitlines() == [
        "+ blog/new (CiliumNetworkPolicy)",
        "    + selects namespace=blog",
        "    + default deny on ingress",
        "- shop/gone (CiliumNetworkPolicy)",
        "    - selects namespace=shop",
        "    - default deny on egress",
        "~ shop/kept (CiliumNetworkPolicy)",
        "    ~ mode dry-run (was enforce)",
        "    + default deny on egress",
        "    - ingress[0]: allow from namespace=shop, app=web on any port",
        "    + ingress[0]: allow from namespace=shop, app=web on tcp/80",
        "    + egress[0]: allow to 10.0.0.0/8 on any port",
    ]
    (change,) = found.to_data()["changed"]
    assert change["defaultDenyTurnedOn"] == ["egress"]
    assert change["mode"] == ["enforce", "dry-run"]
    assert json.dumps(found.to_data())


def test_entries_of_specs_are_told_apart():
    document = policy(**ALLOW)
    document["specs"] = [document["spec"], {"endpointSelector": {}, "egress": [{}]}]
    (unit,) = units(document)
    assert [compiled.index for compiled in unit.policies] == [0, 1, 2]
    assert all(compiled.mode is Mode.ENFORCE for compiled in unit.policies)
