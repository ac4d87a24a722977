"""The search for better parameters of a model: what it may try, its trials, and how sure its result is."""
