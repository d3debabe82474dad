"""Dials the reconciler; verifies, persists and acknowledges bundles."""
