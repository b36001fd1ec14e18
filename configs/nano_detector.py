"""nano's detection head alone, after configs/nano.py: whole photographs, every region. The embeddings stay as they are.

python tools/train.py configs/nano_detector.py --work-dir runs/nano_detector
"""

_base_ = ["nano.py"]

model = dict(learn=["rpn_head"], track_weight=0.0, margin_weight=0.0, pull_weight=0.0, distillation_weight=1.0)
train_dataloader = dict(dataset=dict(scene_share=1.0, size=640, flip=0.5, samples=2000))
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0.02))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=100, end=1000, eta_min=1e-5),
]
load_from = "runs/nano/iter_600.pth"
