"""A sentence selects an object: of a video, or among the tracks of a run."""
