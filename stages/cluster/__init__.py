"""Stages run at once in copies of the project, on this machine or on others."""
