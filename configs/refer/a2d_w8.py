"""MTTR on A2D-Sentences, windows of 8 frames: published mAP 44.7. As published: 3 GPUs of 24 GB, 2 clips each."""

_base_ = ["a2d_w10.py"]

train_dataloader = dict(batch_size=2, dataset=dict(window=8))
custom_hooks = [dict(type="ReferExportHook", trained_on="a2d", window=8)]
