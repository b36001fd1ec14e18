"""Frames in, from files, images, cameras and addresses; video out; and how the camera moved."""
