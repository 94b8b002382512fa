"""Try a network, or two side by side, in a browser."""
