"""The kernel side: loading, pins, tc attachment, map writes."""
