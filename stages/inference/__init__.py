"""Use the exported model, without Keras: `photo` prepares photos, `classifier` classifies them."""
