"""MASA-GroundingDINO as published: its Swin-B, FPN, deformable fusion."""

_base_ = ["_base_/masa.py", "_base_/sa1b.py", "_base_/schedule.py"]

model = dict(
    network="gdino-swinb",
    backbone_weights="weights/groundingdino_swinb_cogcoor_mmdet-55949c9c.pth",  # mmdet's
)
