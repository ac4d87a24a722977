"""The pipeline's stages, one entry point a file, run by DVC as `python -m stages.NAME` from the project's root."""

from stages import environment

environment.refuse_another_python()
IGNORED = environment.settle()  # names of variables of the user's that count for nothing here
