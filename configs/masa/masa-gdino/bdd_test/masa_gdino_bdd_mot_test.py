"""MASA-GroundingDINO on BDD100K MOT."""

_base_ = ["../../_base_/gdino.py", "../../_base_/bdd_mot.py", "../../_base_/wide.py"]

model = {{_base_.task}}
test_dataloader = {{_base_.wide}}
