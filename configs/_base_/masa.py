"""The losses as published. A configuration names the network and the weights of its frozen backbone."""

model = dict(
    type="TrainingModel",
    track_weight=0.25,
    margin_weight=1.0,
    distillation_weight=1.0,
    samples=512,
)
val_dataloader = dict(truth=None)  # labelled videos, tracked and scored after every train_cfg.val_interval epochs
