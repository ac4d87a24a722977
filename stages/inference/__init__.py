"""Use the exported model: `photo` turns a photo into an input, `classifier` classifies inputs. Neither needs Keras."""
