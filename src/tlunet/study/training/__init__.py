"""Running one cell, from its configuration to its finished run folder."""
