"""Which pods are on this node, and which interface is theirs."""
