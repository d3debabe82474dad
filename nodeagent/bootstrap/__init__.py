"""Get this node's certificate by its pod's service account token, and keep it fresh."""

from nodeagent.bootstrap.client import BootstrapConfig
from nodeagent.bootstrap.keeper import CertificateKeeper

__all__ = ["BootstrapConfig", "CertificateKeeper"]
