"""Which images stay on one side of a split: near-duplicates, and groups that the user names."""
