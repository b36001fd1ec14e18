"""MASA-SAM-H as published: SAM's ViT-H, simple pyramid, dynamic head."""

_base_ = ["_base_/masa.py", "_base_/sa1b.py", "_base_/schedule.py"]

model = dict(
    network="sam-vith",
    backbone_weights="weights/sam_vit_h_4b8939.pth",  # segment-anything's
)
