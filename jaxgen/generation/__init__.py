"""Sampling with a key-value cache."""
