"""No packet before the verdict: the agent's side of the CNI plugin `tidegate-cni`."""
