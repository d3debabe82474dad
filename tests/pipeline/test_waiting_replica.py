"""A replica that starts while the API server is away: it serves nobody, and says what it waits for."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import yaml

from netpolicy.kube_api import KubeApi
from reconciler.in_cluster.run import ClusterOptions, Replica
from tests.support.beside import beside
from tests.support.reconciler_scene import Scene, a_free_port


def nowhere(path: Path) -> Path:
    """A kubeconfig of a server that is not there."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "x", "cluster": {"server": f"http://127.0.0.1:{a_free_port()}"}}],
        "users": [{"name": "x", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "current-context": "x",
    }
    path.write_text(yaml.safe_dump(document))
    return path


async def page(port: int, path: str) -> str:
    """A status page, head and all; empty while nobody answers."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return ""
    writer.write(f"GET {path} HTTP/1.1\r\n\r\n".encode())
    text = (await reader.read()).decode()
    writer.close()
    return text


async def said(port: int, path: str, *words: str) -> str:
    """Wait until a page says all of this."""
    text = ""
    async with asyncio.timeout(60):
        while not all(word in text for word in words):
            await asyncio.sleep(0.05)
            text = await page(port, path)
    return text


def test_it_is_not_ready_and_says_for_what_it_waits_and_since_when(tmp_path: Path) -> None:
    async def script() -> None:
        port, scene = a_free_port(), Scene(tmp_path)
        config = replace(scene.config, metrics=f"127.0.0.1:{port}", following=None, inventory=None)
        options = ClusterOptions(namespace="x", identity="a", address=f"127.0.0.1:{scene.port}")
        api = await KubeApi.connect(nowhere(tmp_path / "kubeconfig"))
        try:
            async with beside(Replica(api, config, options).run()):
                ready = await said(
                    port, "/readyz", "policyrepositories were not read yet: ", "connect"
                )
                assert ready.startswith("HTTP/1.1 503 ")
                assert "not ready: waits for the api-server since 20" in ready
                metric = 'tidegate_replica_waits_since_timestamp_seconds{for="api-server"} '
                await said(port, "/metrics", metric)
        finally:
            await api.close()

    asyncio.run(script())
