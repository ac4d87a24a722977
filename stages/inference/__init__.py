"""Use the exported model: `photo` turns a photo into an input, `classifier` classifies inputs. Neither needs Keras."""

from stages.inference.classifier import Classifier
from stages.inference.photo import convert, read_photo

__all__ = ["Classifier", "convert", "read_photo"]
