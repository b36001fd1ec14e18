"""MASA-SAM-H on TAO with TETer's detections."""

_base_ = ["../../../mmdet/_base_/masa_sam_vith.py", "../../_base_/tao_teter.py"]

model = {{_base_.task}}
