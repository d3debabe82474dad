"""The gRPC server that agents dial: announcements, units, inventory out; acks in."""

from reconciler.push.config import PushConfig
from reconciler.push.feed import NodeKeys
from reconciler.push.observer import Ack, Hello, PushObserver
from reconciler.push.server import PushServer
from reconciler.push.shelf import Shelf

__all__ = ["Ack", "Hello", "NodeKeys", "PushConfig", "PushObserver", "PushServer", "Shelf"]
