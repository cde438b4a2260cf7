"""Post-training: rewards and what turns a pre-trained model into an assistant."""
