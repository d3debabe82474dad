"""Inventory in (a file, later Kubernetes); conditions out."""
