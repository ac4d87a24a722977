"""Use a trained model: save and load it, predict, measure its cost."""
