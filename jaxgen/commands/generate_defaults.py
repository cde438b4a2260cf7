"""What `jaxgen generate` takes where nothing else is said; it tells whether a flag was given."""

MAX_TOKENS, TEMPERATURE, PARALLEL_NOISE = 128, 1.0, 4.5
