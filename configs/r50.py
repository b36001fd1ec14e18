"""MASA-R50 as published: ResNet-50 (caffe style, ImageNet), FPN, deformable fusion."""

_base_ = ["_base_/masa.py", "_base_/sa1b.py", "_base_/schedule.py"]

model = dict(
    network="r50",
    backbone_weights="weights/resnet50_caffe.pth",  # mmdet's open-mmlab://detectron2/resnet50_caffe
)
