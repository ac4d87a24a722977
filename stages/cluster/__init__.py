"""Workers that run stages in copies of the project, on one machine or on several, and so fill DVC's cache."""
