"""Key-value cache, sampling."""
