"""MASA on Detic's Swin-B as published; detic_masa.pth fits it. Boxes come from another detector or from a file."""

_base_ = ["masa_gdino.py"]

model = dict(
    detector=dict(
        _delete_=True,
        type="DeticMasa",
        backbone=dict(
            type="SwinTransformer",
            embed_dims=128,
            depths=[2, 2, 18, 2],
            num_heads=[4, 8, 16, 32],
            window_size=7,
            out_indices=[1, 2, 3],
        ),
    ),
    test_cfg=dict(rcnn=dict(score_thr=0.05, max_per_img=100)),
)
