"""Video, images and detections in; tracks, video and report out."""
