"""Scores from elsewhere: submissions, workers in another environment, scoring anew what was stored."""
