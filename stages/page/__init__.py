"""The report page and its parts, and the tables of models for the terminal and for Markdown files."""
