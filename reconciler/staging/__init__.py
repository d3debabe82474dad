"""Carry revisions through their rollouts: the shells around the pure `reconciler.rollout`.

`driver` saves and publishes what the table calls for, `task` tells it what happened and when,
`request_file` and `cli` are where people ask and are answered, `text` is what they read.
"""
