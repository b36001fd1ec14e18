"""Reads frames from files, images, cameras and addresses, writes videos, and estimates the camera's motion."""
