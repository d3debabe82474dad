"""Objects in; units out, one a namespace and one cluster-wide. Pure."""
