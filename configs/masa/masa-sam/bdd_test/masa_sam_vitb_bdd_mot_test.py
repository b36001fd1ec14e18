"""MASA-SAM-B on BDD100K MOT."""

_base_ = ["../../../mmdet/_base_/masa_sam_vitb.py", "../../_base_/bdd_mot.py"]

model = {{_base_.task}}
