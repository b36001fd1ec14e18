"""Finished runs: postprocessing."""
