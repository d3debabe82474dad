"""Pulls policy from Git, validates, stages, signs and pushes it."""
