"""A staged rollout as one node sees it: its role, its evidence, and the way back."""
