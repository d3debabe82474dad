"""Protobuf package `tidegate`."""
