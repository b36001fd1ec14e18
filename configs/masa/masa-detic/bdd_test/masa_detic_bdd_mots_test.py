"""MASA-Detic on BDD100K MOTS (masks)."""

_base_ = ["../../../mmdet/_base_/masa_detic.py", "../../_base_/bdd_mots.py", "../../_base_/wide.py"]

model = {{_base_.task}}
test_dataloader = {{_base_.wide}}
