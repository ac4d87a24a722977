"""Use the exported model, without Keras: `image_file` reads photos, `photo` converts them, `classifier` classifies them."""
