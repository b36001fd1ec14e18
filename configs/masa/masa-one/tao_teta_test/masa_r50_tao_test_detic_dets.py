"""MASA-R50 on TAO with Detic's detections."""

_base_ = ["../../../mmdet/_base_/masa_r50.py", "../../_base_/tao_detic.py"]

model = {{_base_.task}}
