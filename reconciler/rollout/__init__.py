"""The rollout's state machine. Pure."""
