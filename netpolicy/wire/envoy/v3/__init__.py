"""Protobuf package `envoy.service.accesslog.v3`: what is read of Envoy's access log."""
