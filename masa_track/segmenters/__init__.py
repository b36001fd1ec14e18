"""Masks of objects whose boxes are known."""
