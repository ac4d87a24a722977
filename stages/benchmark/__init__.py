"""The programs that `make bench` runs, each contender in its own process."""
