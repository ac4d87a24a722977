"""What scores one run, from its probabilities: accuracy, loss, classes, temperature, and what is doubtful about it."""
