"""Masks of objects, propagated from frame to frame and corrected by prompts."""
