"""WireGuard between nodes: a pure core that says which tunnels there should be, and shells that make them.

settings, keys, addresses → agreed peers → devices and places → commands → wg, routes, maps
"""
