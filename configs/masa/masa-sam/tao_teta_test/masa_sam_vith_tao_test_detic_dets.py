"""MASA-SAM-H on TAO with Detic's detections."""

_base_ = ["../../../mmdet/_base_/masa_sam_vith.py", "../../_base_/tao_detic.py"]

model = {{_base_.task}}
