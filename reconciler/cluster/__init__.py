"""Inventory in (a file; Kubernetes has its place here); what stands behind each address out."""

from reconciler.cluster.inventory_file import watch_inventory

__all__ = ["watch_inventory"]
