"""Pods start by CNI where the agent learns of them from a real API server, which knows no address yet."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from kubernetes import client

from tests.support.cni_runtime import CniError, CniPod
from tests.support.cni_scene import NODE, CniScene, cni_scene
from tests.support.cut_line import CutLine
from tests.support.kernel_pods import within
from tests.support.kube_scene import make_namespace
from tests.support.kube_server import KubeServer

pytestmark = pytest.mark.cluster
if os.geteuid() != 0:
    pytest.skip("needs root: pods are started", allow_module_level=True)

NAMESPACE = "cni-pods"
KUBE_NODE = "cni-pods-node"


@contextmanager
def _line_from(namespace: str, port: int) -> Iterator[CutLine]:
    """The API server of the host, on the same port within a namespace."""
    listening = within(namespace, lambda: socket.create_server(("127.0.0.1", port)))
    loop = asyncio.new_event_loop()
    line = CutLine(port)
    server = loop.run_until_complete(asyncio.start_server(line.serve, sock=listening))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield line
    finally:
        loop.call_soon_threadsafe(line.cut)
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(asyncio.sleep(0.05))
        loop.close()


@pytest.fixture(scope="module")
def core(server: KubeServer) -> client.CoreV1Api:
    make_namespace(server, NAMESPACE)
    core = client.CoreV1Api(server.api_client())
    core.create_node({"metadata": {"name": KUBE_NODE}})
    return core


@pytest.fixture(scope="module")
def scene(server: KubeServer) -> Iterator[CniScene]:
    kubernetes = {"kubeconfig": str(server.kubeconfig), "cluster": "test"}
    with cni_scene(pods=0, settings={"node": KUBE_NODE, "kubernetes": kubernetes}) as found:
        yield found


@pytest.fixture(scope="module", autouse=True)
def line(server: KubeServer, core: client.CoreV1Api, scene: CniScene) -> Iterator[CutLine]:
    """The agent's way to the API server; the agent runs."""
    port = int(server.url.rsplit(":", 1)[1])
    with _line_from(scene.world.namespace(NODE), port) as found:
        scene.agents.start(NODE)
        yield found


def _create(core: client.CoreV1Api, scene: CniScene, number: int) -> CniPod:
    """A pod as the scheduler leaves it: on its node, without an address."""
    pod = replace(scene.pod(number), namespace=NAMESPACE)
    spec = {"nodeName": KUBE_NODE, "containers": [{"name": "c", "image": "none"}]}
    metadata = {"name": pod.name, "labels": {"app": "web"}}
    made = core.create_namespaced_pod(NAMESPACE, {"metadata": metadata, "spec": spec})
    return replace(pod, uid=made.metadata.uid)


def test_it_starts_with_the_labels_of_the_one_and_the_addresses_of_the_other(
    scene: CniScene, core: client.CoreV1Api
):
    pod = _create(core, scene, 0)
    scene.make_namespace(pod)
    result = scene.runtime.add(pod)
    (listed,) = scene.agents.ask_json(NODE, "endpoint", "list")
    assert (listed["pod"], listed["addresses"]) == (pod.name, [pod.address])
    assert "k8s:app=web" in listed["labels"]
    assert listed["attached"]
    assert listed["mac"] == result["interfaces"][2]["mac"]
    scene.runtime.delete(pod, result)
    scene.remove_namespace(pod)


def test_a_pod_of_another_uid_is_not_taken_for_it(scene: CniScene, core: client.CoreV1Api):
    pod = replace(_create(core, scene, 1), uid="of-the-pod-before")
    scene.make_namespace(pod)
    bridge, ours = scene.runtime.conflist["plugins"]
    result = scene.runtime.call("ADD", bridge, pod, None)
    with pytest.raises(CniError) as failed:
        scene.runtime.call("ADD", {**ours, "timeoutSeconds": 1}, pod, result)
    assert failed.value.code == 11
    assert "does not list" in failed.value.text
    scene.runtime.delete(pod, result)
    scene.remove_namespace(pod)


def test_one_that_is_known_starts_while_the_api_server_is_away(
    scene: CniScene, core: client.CoreV1Api, line: CutLine
):
    pod = _create(core, scene, 2)
    scene.make_namespace(pod)
    scene.runtime.delete(pod, scene.runtime.add(pod))  # so the agent has heard of it
    line.cut()
    try:
        result = scene.runtime.add(pod)
    finally:
        line.mend()
    scene.runtime.delete(pod, result)
    scene.remove_namespace(pod)
