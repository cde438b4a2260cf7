"""Scoring tasks: one row per instance."""
