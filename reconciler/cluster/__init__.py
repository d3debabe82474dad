"""Inventory in (a file; Kubernetes has its place here); what stands behind each address out."""

from netpolicy.inventory_watch import watch_inventory

__all__ = ["watch_inventory"]
