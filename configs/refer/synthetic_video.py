"""The video encoder of a tiny MTTR learns to name single objects, in the place of Kinetics-400 for Video Swin.

The next stages start from it: synthetic.py, which also has the commands.
"""

_base_ = ["synthetic.py"]

steps = 900
model = dict(_delete_=True, type="VideoTraining", network="tiny")
train_dataloader = dict(
    batch_size=32,
    sampler=dict(samples=32 * steps),
    dataset=dict(_delete_=True, type="SyntheticObjects", clips=32 * steps),
)
optim_wrapper = dict(optimizer=dict(lr=2e-3), paramwise_cfg=None, clip_grad=None)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.02, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=50, end=steps, eta_min=1e-5),
]
custom_hooks = [dict(type="VideoExportHook")]
