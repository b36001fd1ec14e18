"""MASA-SAM-B as published; sam_vitb_masa.pth fits it."""

model = dict(
    type="MASA",
    unified_backbone=True,
    freeze_detector=True,
    data_preprocessor=dict(
        type="TrackDataPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=1024,
    ),
    detector=dict(
        type="SamMasa",
        backbone=dict(
            type="ImageEncoderViT",
            embed_dim=768,
            depth=12,
            num_heads=12,
            global_attn_indexes=[2, 5, 8, 11],
            out_indices=[2, 5, 8, 11],
        ),
        prompt_encoder=dict(type="PromptEncoder", mask_in_chans=16),
        mask_decoder=dict(type="MaskDecoder"),
    ),
    masa_adapter=[
        dict(type="SimpleFPN", in_channels=[768, 768, 768, 768], out_channels=256, use_residual=True, num_outs=5),
        dict(type="DyHead", in_channels=256, out_channels=256, num_blocks=3),
    ],
    rpn_head=dict(type="RPNHead", anchor_generator=dict(strides=[4, 8, 16, 32, 64])),
    roi_head=dict(type="StandardRoIHead", bbox_head=dict(type="Shared2FCBBoxHead")),
    track_head=dict(type="MasaTrackHead"),
    tracker=dict(type="MasaTaoTracker", preset="demo"),
)
