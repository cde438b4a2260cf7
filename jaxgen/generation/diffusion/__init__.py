"""Pictures from noise: samplers, guidance, and how a run's model is called by them."""
