"""Keras layers and initializers that the models share."""
