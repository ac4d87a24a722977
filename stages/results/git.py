"""What git says of the project."""

import subprocess


def git(*arguments: str) -> str:
    """What a git command prints; empty if it fails, or there is no git."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, encoding="utf-8", errors="replace", check=False)
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""
