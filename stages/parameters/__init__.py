"""What `params.yaml` may hold: one file for each section, beside what reads and checks them."""
