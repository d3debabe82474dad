"""Encryption between nodes, as the reconciler sees it: whose public keys count, and who is not well."""
