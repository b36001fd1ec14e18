"""MASA-R50 on BDD100K MOT."""

_base_ = ["../../../mmdet/_base_/masa_r50.py", "../../_base_/bdd_mot.py"]

model = {{_base_.task}}
