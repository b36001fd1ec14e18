"""MASA-SAM-B on TAO with Detic's detections."""

_base_ = ["../../../mmdet/_base_/masa_sam_vitb.py", "../../_base_/tao_detic.py"]

model = {{_base_.task}}
