"""Ladders of sizes and their reports."""
