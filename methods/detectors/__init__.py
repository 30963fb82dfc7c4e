"""What a method trains: one file or folder per detector."""
