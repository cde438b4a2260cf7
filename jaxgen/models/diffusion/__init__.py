"""Models of pictures by diffusion and flow: denoisers, what they are conditioned on, and latents."""
