"""MTTR on Refer-YouTube-VOS, windows of 12 frames: published J&F 55.32. As published: 4 GPUs of 48 GB, 1 clip each.

The authors wrote a decay after epoch 20. Their code passed the loss where torch takes the epoch, and in fact decayed
after the first: ``--cfg-options param_scheduler.0.milestones=[1]`` repeats what they ran.
"""

_base_ = ["../_base_/refer.py"]

train_dataloader = dict(
    batch_size=1,
    num_workers=3,
    persistent_workers=False,
    drop_last=True,
    collate_fn=dict(type="keep_items"),
    sampler=dict(type="PhotoSampler"),
    dataset=dict(type="ReferYoutubeVos", root="refer_youtube_vos", window=12),
)
param_scheduler = [dict(type="MultiStepLR", by_epoch=True, milestones=[20], gamma=0.4)]
train_cfg = dict(max_epochs=30)
custom_hooks = [dict(type="ReferExportHook", trained_on="ytvos", window=12)]
