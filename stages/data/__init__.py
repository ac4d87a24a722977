"""Images as arrays: the publisher's files, and transforms. NumPy only, no Keras."""
