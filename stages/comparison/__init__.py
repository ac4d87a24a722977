"""What compares runs: intervals, significance tests, calibration, the ensemble."""
