"""MASA-R50 on BDD100K; public detections turned from the authors' pickles by tools/convert_public_detections.py."""

_base_ = ["_base_/masa_r50.py", "_base_/bdd.py"]

model = dict(public_det_path="data/bdd/detections", tracker=dict(_delete_=True, type="MasaBDDTracker", preset="bdd"))
