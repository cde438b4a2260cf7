"""Models as pytrees: configuration, layers, the transformer, exact counting."""
