"""MTTR on A2D-Sentences, windows of 10 frames: published mAP 46.1. As published: 2 GPUs of 48 GB, 3 clips each, AMP.

bash tools/dist_train.sh configs/refer/a2d_w10.py 2 --amp --cfg-options train_dataloader.dataset.root=a2d_sentences
"""

_base_ = ["../_base_/refer.py"]

train_dataloader = dict(
    batch_size=3,
    num_workers=3,
    persistent_workers=False,  # workers get the epoch when they start
    drop_last=True,
    collate_fn=dict(type="keep_items"),
    sampler=dict(type="PhotoSampler"),
    dataset=dict(type="A2dSentences", root="a2d_sentences", window=10),
)
param_scheduler = [dict(type="MultiStepLR", by_epoch=True, milestones=[50], gamma=0.4)]
custom_hooks = [dict(type="ReferExportHook", trained_on="a2d", window=10)]
