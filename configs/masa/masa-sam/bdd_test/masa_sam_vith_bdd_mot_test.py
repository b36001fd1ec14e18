"""MASA-SAM-H on BDD100K MOT."""

_base_ = ["../../../mmdet/_base_/masa_sam_vith.py", "../../_base_/bdd_mot.py"]

model = {{_base_.task}}
