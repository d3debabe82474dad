"""Protobuf package `tidegate.v1`: additions only; a change of meaning is v2."""
