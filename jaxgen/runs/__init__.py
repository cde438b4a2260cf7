"""Runs: configuration, directory, checkpoints, provenance, warm start."""
