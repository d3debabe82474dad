"""The promoted policies as objects of the cluster, for people and tools to read; they decide nothing."""

from reconciler.mirror.objects import Copy, Key, copies_of
from reconciler.mirror.plan import Step, next_step

__all__ = ["Copy", "Key", "Step", "copies_of", "next_step"]
