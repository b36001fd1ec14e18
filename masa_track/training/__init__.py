"""Training from still images. Its runner needs mmengine: pip install "masa-track[train]"."""
