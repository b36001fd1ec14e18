"""nano: a frozen, centred EfficientNet-Lite0; pasted objects; a quarter of an hour on a CPU. Results: the card.

    python tools/start_nano.py ../shared/photos/regions.json ../shared/photos/images \\
        --backgrounds ../shared/photos/unlabelled --out runs/nano/centred.safetensors
    python tools/train.py configs/nano.py --work-dir runs/nano
"""

_base_ = ["_base_/masa.py"]

model = dict(
    network=dict(type="nano"),
    backbone_weights="runs/nano/centred.safetensors",
    pairs="regions",
    samples=128,
    track_weight=1.0,
    margin_weight=0.1,
    distillation_weight=0.0,  # it gave the embeddings nothing; the detection head learns in configs/nano_detector.py
    pull_weight=1.0,  # without it the embeddings got worse on the dev clips within 250 steps
)
train_dataloader = dict(
    batch_size=2,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type="PhotoSampler"),
    dataset=dict(
        type="Composites",
        regions="../shared/photos/regions.json",
        images="../shared/photos/images",
        backgrounds="../shared/photos/unlabelled",
        samples=1200,
    ),
)
# What is new starts at zero, so decay pulls towards the centred features.
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=5e-4, weight_decay=0.05),
    clip_grad=dict(max_norm=5, norm_type=2),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=100, end=600, eta_min=1e-5),
]
train_cfg = dict(type="ResumableLoop", max_epochs=1)
randomness = dict(seed=0)
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=200, max_keep_ckpts=3),
)
custom_hooks = [dict(type="ExportHook", backbone=True, half=True)]  # a file that masa_track.load takes
env_cfg = dict(dist_cfg=dict(backend="gloo"))
load_from = None
work_dir = None
