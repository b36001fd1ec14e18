"""MASA-SAM-B on open-vocabulary MOT (TAO, base and novel classes)."""

_base_ = ["../../../mmdet/_base_/masa_sam_vitb.py", "../../_base_/open_vocabulary.py"]

model = {{_base_.task}}
