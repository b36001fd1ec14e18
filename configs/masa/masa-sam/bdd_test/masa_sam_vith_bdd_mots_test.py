"""MASA-SAM-H on BDD100K MOTS (masks)."""

_base_ = ["../../../mmdet/_base_/masa_sam_vith.py", "../../_base_/bdd_mots.py"]

model = {{_base_.task}}
