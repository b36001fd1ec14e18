"""MASA's published schedule: SGD, 12 epochs, learning rate 0.08 for a batch of 64 or more, scaled to the real batch."""

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.08, momentum=0.9, weight_decay=1e-4),
    clip_grad=dict(max_norm=35, norm_type=2),
)
auto_scale_lr = dict(enable=True, base_batch_size=64)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type="MultiStepLR", by_epoch=True, begin=0, end=12, milestones=[8, 11], gamma=0.1),
]
train_cfg = dict(type="ResumableLoop", max_epochs=12)

randomness = dict(seed=0)
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=500, max_keep_ckpts=3),
)
custom_hooks = [dict(type="ExportHook")]
env_cfg = dict(cudnn_benchmark=True, dist_cfg=dict(backend="nccl"))
load_from = None
work_dir = None
