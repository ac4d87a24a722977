"""The quality of the data: near-duplicates, label issues."""
