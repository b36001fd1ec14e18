"""MASA-GroundingDINO on open-vocabulary MOT (TAO, base and novel classes)."""

_base_ = ["../../_base_/gdino.py", "../../_base_/open_vocabulary.py"]

model = {{_base_.task}}
