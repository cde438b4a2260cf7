"""Attention: which keys a query attends to, biases on its logits, and how it is computed."""
