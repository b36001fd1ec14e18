"""mmdet's Faster R-CNN with identities by MASA-R50; give model.detector_checkpoint."""

_base_ = ["_base_/masa_r50.py", "_base_/mot.py"]

model = dict(detector="mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py", rpn_head=None, roi_head=None)
