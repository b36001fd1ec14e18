"""nano on one small GPU: two pairs an iteration, an update every sixteen; --amp saves memory. No GPU has run it yet."""

_base_ = ["nano.py"]

optim_wrapper = dict(accumulative_counts=16)
train_dataloader = dict(batch_size=2)
default_hooks = dict(checkpoint=dict(interval=512))  # a multiple of the accumulation
