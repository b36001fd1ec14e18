"""Scores of tracks against the truth: HOTA, CLEAR and IDF1."""
