"""What a proxy is asked to do with the flows that are redirected to it, and what it tells of them."""
