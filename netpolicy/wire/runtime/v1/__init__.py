"""Protobuf package `runtime.v1`: what is read of the Container Runtime Interface."""
