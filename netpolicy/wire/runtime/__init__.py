"""Protobuf package `runtime`: of Kubernetes, not ours."""
