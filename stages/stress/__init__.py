"""What stresses a model: corrupted images, and images of none of the classes."""
