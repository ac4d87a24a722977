"""What `make bench` runs, each contender in a process of its own."""
