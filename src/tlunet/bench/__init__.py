"""Speed measurements, compared with the plain recipe and with hardware limits."""
