"""Replay observed flows against two policy sets: which real ones would be cut, which opened."""
