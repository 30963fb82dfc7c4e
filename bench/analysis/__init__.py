"""Which method is better: two systems on the same runs and classes, and many ranked over scenarios."""
