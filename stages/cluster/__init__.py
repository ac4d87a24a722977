"""Stages run at once: here in the project, or in copies of it on other machines."""
