"""mmdet's RTMDet-tiny with identities by MASA-R50; give model.detector_checkpoint."""

_base_ = ["_base_/masa_r50.py", "_base_/mot.py"]

model = dict(
    detector="mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py", detector_scale=(640, 640), rpn_head=None, roi_head=None
)
