"""A sentence selects an object: MTTR on clips, and a referrer over the tracks of a run."""
