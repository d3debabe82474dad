"""Where the node's Envoy and its files are, for the agent and for who runs Envoy apart from it.

In:   EnvoyConfig, the agent's state directory
Out:  EnvoySettings
Pure.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from nodeagent.config import EnvoyConfig
from nodeagent.envoy.settings import EnvoySettings

ENVOY_FOLDER: Final = "envoy"
ACCESS_LOG: Final = "requests/requests.log"
"""In a folder of its own, which may be kept in memory."""


def envoy_settings(config: EnvoyConfig, state_dir: Path) -> EnvoySettings:
    """Two processes that read one configuration mean one Envoy."""
    folder = state_dir / ENVOY_FOLDER
    return EnvoySettings(
        folder=folder,
        access_log=folder / ACCESS_LOG,
        binary=config.path,
        secrets=config.secrets,
        workers=config.workers,
    )
