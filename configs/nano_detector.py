"""nano's detection head alone, after configs/nano.py: whole photographs, every region. The embeddings stay as they are.

python tools/train.py configs/nano_detector.py --work-dir runs/nano_detector
"""

_base_ = ["nano.py"]

model = dict(learn=["rpn_head"], track_weight=0.0, margin_weight=0.0, pull_weight=0.0)
train_dataloader = dict(dataset=dict(scene_share=1.0, samples=1800))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=100, end=900, eta_min=1e-5),
]
load_from = "runs/nano/iter_600.pth"
