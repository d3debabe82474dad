"""Why the proxy does not serve what was asked of it."""

from __future__ import annotations

from netpolicy.errors import TransientError


class ProxyError(TransientError):
    """Envoy is not there, or did not take a configuration: what it served before, it serves still."""
