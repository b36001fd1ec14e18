"""Stage 1 of a tiny MTTR on synthetic clips: sentences of motion alone, or of colour alone. Minutes on one CPU core.

    python tools/train.py configs/refer/synthetic_video.py --work-dir runs/refer0
    python tools/train.py configs/refer/synthetic.py --work-dir runs/refer1 \\
        --cfg-options model.video_weights=runs/refer0/video.safetensors
    python tools/train.py configs/refer/synthetic_stage2.py --work-dir runs/refer2 \\
        --cfg-options load_from=runs/refer1/iter_2200.pth
    python tools/bench_refer.py runs/refer2/model.safetensors
"""

steps = 2200
model = dict(type="ReferTraining", network=dict(type="tiny"), frozen_text=False)
train_dataloader = dict(
    batch_size=12,
    num_workers=0,
    drop_last=True,
    collate_fn=dict(type="keep_items"),
    sampler=dict(type="PhotoSampler", samples=12 * steps),
    dataset=dict(
        type="SyntheticClips",
        parts=[dict(clips=8 * steps, kinds=("motion",)), dict(clips=4 * steps, kinds=("colour",))],
    ),
)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys={"network.video.": dict(lr_mult=0.3)}),
    clip_grad=dict(max_norm=0.1, norm_type=2),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=steps * 7 // 10, end=steps, eta_min=2e-5),
]
train_cfg = dict(type="ResumableLoop", max_epochs=1)
randomness = dict(seed=0)
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=100, max_keep_ckpts=3),
)
custom_hooks = [dict(type="ReferExportHook", trained_on="synthetic", window=4)]
env_cfg = dict(dist_cfg=dict(backend="gloo"))
load_from = None
work_dir = None
