"""Figures, drawn with matplotlib from arrays and tables. Nothing here loads TensorFlow."""
