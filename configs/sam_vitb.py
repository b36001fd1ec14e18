"""MASA-SAM-B as published: SAM's ViT-B, simple pyramid, dynamic head."""

_base_ = ["_base_/masa.py", "_base_/sa1b.py", "_base_/schedule.py"]

model = dict(
    network="sam-vitb",
    backbone_weights="weights/sam_vit_b_01ec64.pth",  # segment-anything's
)
