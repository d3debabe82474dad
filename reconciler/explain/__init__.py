"""Say why a flow is allowed or denied: the verdict, and the chain of rules behind it.

In:   a revision's policies, an inventory, two ends and a port
Out:  Explanation; as text and as data
Pure, but for `cli`, which reads files and prints.
"""

from reconciler.explain.chain import Explanation, explain_flow
from reconciler.explain.ends import NamedEnd, resolve_ends

__all__ = ["Explanation", "NamedEnd", "explain_flow", "resolve_ends"]
