"""nano on one small GPU (4 GB): two photographs an iteration, an update every sixteen; add --amp to save a third."""

_base_ = ["nano.py"]

optim_wrapper = dict(accumulative_counts=16)
train_dataloader = dict(batch_size=2)
default_hooks = dict(checkpoint=dict(interval=512))  # a multiple of the accumulation
