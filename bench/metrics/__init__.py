"""What is computed from scores and masks, and from the matrix R: metrics, averages, forgetting, intervals and tests."""
