"""Figures of a report: the paper's and additional ones."""
