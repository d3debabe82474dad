"""Dials the reconciler; verifies, persists and acknowledges bundles."""

from nodeagent.receive.config import ReceiveConfig, ReceiverStatus
from nodeagent.receive.receiver import Receiver
from nodeagent.receive.store import BundleStore

__all__ = ["BundleStore", "ReceiveConfig", "Receiver", "ReceiverStatus"]
