"""Checkpoints of Hugging Face, read onto a mesh and written from one, without PyTorch."""
