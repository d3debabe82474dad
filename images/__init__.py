"""Build the container images from Debian's packages and locked wheels, without any image registry."""
