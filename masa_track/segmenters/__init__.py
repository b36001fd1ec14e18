"""Masks of things whose boxes are known."""
