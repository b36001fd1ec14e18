"""Stage 2, from the weights of stage 1: colours, shapes and motion. Commands: synthetic.py."""

_base_ = ["synthetic.py"]

steps = 1600  # of the schedule; the 17,000 clips are seen after 1,416
train_dataloader = dict(
    sampler=dict(samples=17000),
    dataset=dict(
        parts=[
            dict(clips=6000),
            dict(clips=4000, kinds=("motion",)),
            dict(clips=4000, kinds=("shape",)),
            dict(clips=3000, kinds=("colour",)),
        ]
    ),
)
optim_wrapper = dict(optimizer=dict(lr=7e-4))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=steps * 3 // 10, end=steps, eta_min=1.4e-5),
]
