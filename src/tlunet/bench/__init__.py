"""How fast it is, measured: against the plain recipe, and against what the hardware can do."""
