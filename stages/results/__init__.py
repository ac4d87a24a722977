"""What stages write for other stages, besides tables: the origin of models, predictions, metrics."""
