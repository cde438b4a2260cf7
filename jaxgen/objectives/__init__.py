"""A model and a batch to a loss."""
