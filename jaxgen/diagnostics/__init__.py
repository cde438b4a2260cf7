"""Diagnostics of training: coordinate checks, transfer of rates, cooldowns, batch sizes."""
