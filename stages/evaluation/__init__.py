"""From probabilities to results: scores, intervals, significance, calibration, robustness, OOD detection."""
