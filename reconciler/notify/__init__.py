"""Tell others of each step of a rollout: commit statuses at the Git host, or any receiver of webhooks.

`target` says who is told, `tell` (pure) what and in which words, `send` sends it, `notifier` sees to it that
every step arrives once it can.
"""

from reconciler.notify.notifier import Notifier
from reconciler.notify.target import Kind, Target

__all__ = ["Kind", "Notifier", "Target"]
