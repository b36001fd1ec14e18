"""MASA-R50 on TAO with public detections, turned from the authors' pickles by tools/convert_public_detections.py."""

_base_ = ["_base_/masa_r50.py", "_base_/tao.py"]

model = dict(public_det_path="data/tao/detections", tracker=dict(_delete_=True, type="MasaTaoTracker", preset="tao"))
