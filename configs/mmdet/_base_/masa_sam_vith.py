"""MASA-SAM-H as published; sam_vith_masa.pth fits it."""

_base_ = ["masa_sam_vitb.py"]

model = dict(
    detector=dict(
        backbone=dict(
            embed_dim=1280, depth=32, num_heads=16, global_attn_indexes=[7, 15, 23, 31], out_indices=[7, 15, 23, 31]
        )
    ),
    masa_adapter=[
        dict(type="SimpleFPN", in_channels=[1280, 1280, 1280, 1280], out_channels=256, use_residual=True, num_outs=5),
        dict(type="DyHead", in_channels=256, out_channels=256, num_blocks=3),
    ],
)
