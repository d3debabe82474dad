"""What the reconciler remembers: publications, judgements, the fleet's last words."""
