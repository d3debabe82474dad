"""Whether the kernel still holds what the agent put there, and putting it back if not."""
