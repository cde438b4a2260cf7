"""Models of pictures by diffusion and flow: denoisers and what they are told."""
