"""MASA-R50 on BDD100K MOTS (masks)."""

_base_ = ["../../../mmdet/_base_/masa_r50.py", "../../_base_/bdd_mots.py"]

model = {{_base_.task}}
