"""State, step, loop, optimizers, schedules, checkpoints, tracking."""
