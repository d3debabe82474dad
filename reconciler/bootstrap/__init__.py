"""Give the agents of a cluster their certificates: a service account's token in, a node's name out."""

from reconciler.bootstrap.server import BootstrapConfig, BootstrapServer

__all__ = ["BootstrapConfig", "BootstrapServer"]
