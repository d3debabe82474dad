"""The main job shown on this machine: a commit changes what the kernel lets through."""
