"""MASA-Detic as published: its Swin-B, FPN, deformable fusion."""

_base_ = ["_base_/masa.py", "_base_/sa1b.py", "_base_/schedule.py"]

model = dict(
    network="detic-swinb",
    backbone_weights="weights/detic_centernet2_swin-b_fpn_4x_lvis-coco-in21k_20230120-0d301978.pth",  # mmdet's
)
