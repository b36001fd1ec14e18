"""MASA-Detic on TAO with Detic's detections."""

_base_ = ["../../../mmdet/_base_/masa_detic.py", "../../_base_/tao_detic.py", "../../_base_/wide.py"]

model = {{_base_.task}}
test_dataloader = {{_base_.wide}}
