"""What is measured: one file or folder per method; `detectors/` holds one per detector."""
