"""Kernel events in; flow records out."""
