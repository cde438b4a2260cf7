"""The algebra of diffusion and flow: how much noise a time has, and what a network predicts."""
