"""The reconciler in a Kubernetes cluster: our objects in, their statuses out, one leader of several replicas.

`objects` follows them, `following` and `requests` read them, `status` says what they should say, `reporter`
writes it, `run` joins these with the reconciler that standalone mode has too.
"""

from reconciler.in_cluster.run import ClusterOptions, run_in_cluster

__all__ = ["ClusterOptions", "run_in_cluster"]
