"""Images as arrays: file formats, drawn images, transforms. NumPy only, no Keras."""
