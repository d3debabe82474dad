"""Protobuf package `envoy`: Envoy's, not ours."""
