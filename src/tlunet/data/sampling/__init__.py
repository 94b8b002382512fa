"""Which images an epoch draws, and what is drawn for each: functions of (seed, epoch, image)."""
