"""Images as arrays: readers of files, what is checked in them, and transforms. No Keras."""
