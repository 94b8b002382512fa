"""From the run folders of a study to what they say: statistics, claims, figures, the report."""
