"""The rollout of one revision: its phases, the evidence on it, and the gates that judge it. Pure."""
