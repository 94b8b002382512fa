"""Sweeps: launching the cells of one command and tabulating their results."""
