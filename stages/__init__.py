"""The pipeline's stages, one front door a file, run by DVC as `python -m stages.NAME` from the project's root."""
