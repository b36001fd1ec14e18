"""MASA-GroundingDINO on TAO with TETer's detections."""

_base_ = ["../../_base_/gdino.py", "../../_base_/tao_teter.py"]

model = {{_base_.task}}
