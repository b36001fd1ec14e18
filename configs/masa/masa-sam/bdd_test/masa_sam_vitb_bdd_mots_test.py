"""MASA-SAM-B on BDD100K MOTS (masks)."""

_base_ = ["../../../mmdet/_base_/masa_sam_vitb.py", "../../_base_/bdd_mots.py"]

model = {{_base_.task}}
