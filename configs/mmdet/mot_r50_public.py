"""MASA-R50 on public detections (det/det.txt)."""

_base_ = ["_base_/masa_r50.py", "_base_/mot.py"]

model = dict(public_det_path="data/MOT17/train")
