"""Statistics of a study: blocks, comparisons, claims."""
