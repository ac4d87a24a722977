"""What nearly every stage uses: errors, atomic writes, the names of files, the splits. Nothing here is slow to load."""
