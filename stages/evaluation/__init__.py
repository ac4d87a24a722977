"""From a model to logits, from logits to numbers."""
