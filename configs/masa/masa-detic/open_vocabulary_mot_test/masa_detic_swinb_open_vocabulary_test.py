"""MASA-Detic on open-vocabulary MOT (TAO, base and novel classes).

The authors' file runs Detic; here its saved detections are read, as Detic is not part of mmdet.
"""

_base_ = ["../../../mmdet/_base_/masa_detic.py", "../../_base_/open_vocabulary.py", "../../_base_/wide.py"]

model = {{_base_.task}}
test_dataloader = {{_base_.wide}}
