"""Stage 2, from the weights of stage 1: colours, shapes and motion. Commands: synthetic.py."""

_base_ = ["synthetic.py"]

steps = 4000
train_dataloader = dict(
    sampler=dict(samples=12 * steps),
    dataset=dict(
        parts=[
            dict(clips=4 * steps),
            dict(clips=3 * steps, kinds=("shape",)),
            dict(clips=3 * steps, kinds=("motion",)),
            dict(clips=2 * steps, kinds=("colour",)),
        ]
    ),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=steps * 3 // 5, end=steps, eta_min=2e-5),
]
default_hooks = dict(checkpoint=dict(interval=500))
