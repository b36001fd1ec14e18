"""mmdet's DINO with identities by MASA-R50; give model.detector_checkpoint."""

_base_ = ["_base_/masa_r50.py", "_base_/mot.py"]

model = dict(detector="mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py", rpn_head=None, roi_head=None)
