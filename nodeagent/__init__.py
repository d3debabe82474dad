"""Verifies bundles and keeps the kernel enforcing the last good one."""
