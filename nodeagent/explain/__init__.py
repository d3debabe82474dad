"""The verdict that the kernel would give on a flow, from its maps as they are, every lookup shown.

`lookups` is pure: the maps' contents and a question in, each lookup and the verdict out. `read` takes
the contents from the pins, `names` tells who is meant, `render` puts the answer into words.
"""
