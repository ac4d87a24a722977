"""Use the exported model, without Keras: `image_file` reads photos, `photo` converts them, `classifier` classifies them."""

from stages.inference.classifier import Classifier
from stages.inference.image_file import read_photo
from stages.inference.photo import convert

__all__ = ["Classifier", "convert", "read_photo"]
