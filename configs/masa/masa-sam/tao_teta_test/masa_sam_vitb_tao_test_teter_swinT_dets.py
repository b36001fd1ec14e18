"""MASA-SAM-B on TAO with TETer's detections."""

_base_ = ["../../../mmdet/_base_/masa_sam_vitb.py", "../../_base_/tao_teter.py"]

model = {{_base_.task}}
