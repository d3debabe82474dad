"""Our own YAML files: tidegate.yaml, the inventory, both programs' configurations."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path

from netpolicy.errors import StalledError
from netpolicy.inventory import address_entries
from netpolicy.inventory_file import decode_inventory
from nodeagent.config import decode_config
from reconciler.config import load_config
from reconciler.files import SourceFile
from reconciler.settings import SETTINGS_PATH, read_settings
from tests.fuzz.target import YAML_WORDS, Target, check_diagnostics, line_count

INVENTORY = b"""\
cluster: default
namespaces: {shop: {labels: {team: a}}}
nodes:
  - {name: n1, addresses: [192.0.2.1, "2001:db8::1"], labels: {zone: a}}
pods:
  - {namespace: shop, name: web, node: n1, addresses: [10.0.0.1], labels: {app: web}, mac: "02:00"}
  - {namespace: shop, name: db, node: n1, addresses: [10.0.0.2], serviceAccount: db, interface: v1}
"""
SETTINGS = b"allowEmpty: true\nownership: {policies/shop: [shop], policies/base: ['*']}\n"
AGENT = b"""\
node: n1
inventory: inventory.yaml
state_dir: state
socket: agent.sock
conntrack_entries: 1024
admit_local_host: true
reconciler: {address: "localhost:1", server_name: x}
tls: {ca: ca.pem, certificate: c.pem, key: k.pem}
trust: {root: root.json}
"""
RECONCILER = b"""\
cluster: default
state_dir: state
keys: keys
inventory: inventory.yaml
listen: "0.0.0.0:8443"
repository: {url: "https://git.example/r.git", branch: main, interval: 30, username: u}
"""


def feed_settings(data: bytes) -> None:
    """tidegate.yaml."""
    file = SourceFile(path=SETTINGS_PATH, blob_id="", data=data)
    _, faults = read_settings([file])
    check_diagnostics(faults, lines=line_count(data))


def feed_inventory(data: bytes) -> None:
    """The inventory file: whole, or not there at all."""
    inventory, faults = decode_inventory("inventory.yaml", data)
    check_diagnostics(faults, lines=line_count(data))
    assert inventory is not None or faults
    if inventory is not None:
        address_entries(inventory)


def feed_agent(data: bytes) -> None:
    """agent.yaml."""
    config, faults = decode_config(Path("agent.yaml"), data)
    check_diagnostics(faults, lines=line_count(data))
    assert config is not None or faults


def feed_reconciler(data: bytes) -> None:
    """reconciler.yaml, which is an operator's: what is wrong with it stalls the program."""
    with tempfile.NamedTemporaryFile(suffix=".yaml") as file:
        file.write(data)
        file.flush()
        with suppress(StalledError):
            load_config(Path(file.name))


TARGETS = (
    Target(name="settings", feed=feed_settings, seeds=(SETTINGS,), words=YAML_WORDS),
    Target(name="inventory", feed=feed_inventory, seeds=(INVENTORY,), words=YAML_WORDS),
    Target(name="agent", feed=feed_agent, seeds=(AGENT,), words=YAML_WORDS),
    Target(name="reconciler", feed=feed_reconciler, seeds=(RECONCILER,), words=YAML_WORDS),
)
