"""A Git host tells of a push, and the branch is looked at now instead of at the next interval.

`proof` says whether a request comes from who knows the secret, `pace` how often it may have an effect,
`server` listens.
"""

from reconciler.webhook.server import WebhookConfig, WebhookServer

__all__ = ["WebhookConfig", "WebhookServer"]
