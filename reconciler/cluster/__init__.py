"""The cluster: its inventory in (from a file, or the Kubernetes API); what is said of it out."""

from netpolicy.inventory_watch import watch_inventory

__all__ = ["watch_inventory"]
