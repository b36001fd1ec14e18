"""From photographs to a trained model."""
