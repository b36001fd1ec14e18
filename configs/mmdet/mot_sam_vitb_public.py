"""MASA-SAM-B on public detections (det/det.txt)."""

_base_ = ["_base_/masa_sam_vitb.py", "_base_/mot.py"]

model = dict(public_det_path="data/MOT17/train")
