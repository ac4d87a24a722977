"""Code that every stage uses: errors, atomic writes, parameters, runs, the splits. Nothing here is slow to load."""
