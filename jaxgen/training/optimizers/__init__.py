"""Optimizers: frozen settings that build optax transformations."""
