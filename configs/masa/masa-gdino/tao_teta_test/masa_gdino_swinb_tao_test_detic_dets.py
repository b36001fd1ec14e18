"""MASA-GroundingDINO on TAO with Detic's detections."""

_base_ = ["../../_base_/gdino.py", "../../_base_/tao_detic.py"]

model = {{_base_.task}}
