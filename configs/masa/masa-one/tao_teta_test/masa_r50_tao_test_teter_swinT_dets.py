"""MASA-R50 on TAO with TETer's detections."""

_base_ = ["../../../mmdet/_base_/masa_r50.py", "../../_base_/tao_teter.py"]

model = {{_base_.task}}
