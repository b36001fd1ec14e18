"""The video encoder of a tiny MTTR learns to name single objects, in the place of Kinetics-400 for Video Swin.

The next stages start from it: synthetic.py.
"""

steps = 900
model = dict(type="VideoTraining", network="tiny")
train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    drop_last=True,
    collate_fn=dict(type="keep_items"),
    sampler=dict(type="PhotoSampler", samples=32 * steps),
    dataset=dict(type="SyntheticObjects", clips=32 * steps),
)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=2e-3, weight_decay=1e-4),
    clip_grad=None,
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.02, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=50, end=steps, eta_min=1e-5),
]
train_cfg = dict(type="ResumableLoop", max_epochs=1)
randomness = dict(seed=0)
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=100, max_keep_ckpts=3),
)
custom_hooks = [dict(type="VideoExportHook")]
env_cfg = dict(dist_cfg=dict(backend="gloo"))
load_from = None
work_dir = None
