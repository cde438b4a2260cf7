"""One modality to tokens and back."""
