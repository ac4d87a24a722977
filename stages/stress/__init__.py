"""What stresses a model: corrupted images, and images that show no clothing."""
