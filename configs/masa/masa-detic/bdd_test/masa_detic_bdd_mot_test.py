"""MASA-Detic on BDD100K MOT."""

_base_ = ["../../../mmdet/_base_/masa_detic.py", "../../_base_/bdd_mot.py", "../../_base_/wide.py"]

model = {{_base_.task}}
test_dataloader = {{_base_.wide}}
