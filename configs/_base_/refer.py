"""MTTR as published: Video Swin-T of Kinetics-400, frozen RoBERTa, AdamW, gradients clipped at 0.1.

``video_weights`` and ``text_weights`` may be files; by name they are downloaded unless they are there.
``tokenizer`` is the folder or the tokenizer.json of roberta-base.
"""

model = dict(
    type="ReferTraining",
    network="mttr",
    tokenizer="weights/roberta-base",
    video_weights="swin3d_t",
    text_weights="roberta-base",
    frozen_text=True,
)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-4, weight_decay=1e-4),
    # The text encoder's rate counts with model.frozen_text=False only.
    paramwise_cfg=dict(custom_keys={"network.video.": dict(lr_mult=0.1), "network.text.": dict(lr_mult=0.5)}),
    clip_grad=dict(max_norm=0.1, norm_type=2),
)
train_cfg = dict(type="ResumableLoop", max_epochs=70)
randomness = dict(seed=42)
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=1000, max_keep_ckpts=3),
)
env_cfg = dict(cudnn_benchmark=False, dist_cfg=dict(backend="nccl"))
load_from = None
work_dir = None
