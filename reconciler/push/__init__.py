"""The gRPC server that agents dial: announcements, units, inventory out; acks in."""
