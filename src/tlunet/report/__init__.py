"""Statistics, claims, figures and pages of a report."""
