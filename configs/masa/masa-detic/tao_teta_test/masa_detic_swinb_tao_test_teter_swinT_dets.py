"""MASA-Detic on TAO with TETer's detections."""

_base_ = ["../../../mmdet/_base_/masa_detic.py", "../../_base_/tao_teter.py", "../../_base_/wide.py"]

model = {{_base_.task}}
test_dataloader = {{_base_.wide}}
