"""The pipeline: a video through a detector and a tracker to files, and the search of options."""
