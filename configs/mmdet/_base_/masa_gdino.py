"""MASA on Grounding DINO's Swin-B as published; gdino_masa.pth fits it, text encoder and detector included."""

model = dict(
    type="MASA",
    unified_backbone=True,
    freeze_detector=True,
    data_preprocessor=dict(
        type="TrackDataPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    detector="mmdet::grounding_dino/grounding_dino_swin-b_pretrain_mixeddata.py",
    masa_adapter=[
        dict(
            type="FPN",
            in_channels=[256, 512, 1024],
            out_channels=256,
            norm_cfg=dict(type="SyncBN", requires_grad=True),
            num_outs=5,
        ),
        dict(type="DeformFusion", in_channels=256, out_channels=256, num_blocks=3),
    ],
    rpn_head=dict(type="RPNHead", anchor_generator=dict(strides=[8, 16, 32, 64, 128])),
    roi_head=dict(
        type="StandardRoIHead",
        bbox_roi_extractor=dict(featmap_strides=[8, 16, 32]),
        bbox_head=dict(type="Shared2FCBBoxHead"),
    ),
    track_head=dict(type="MasaTrackHead", roi_extractor=dict(featmap_strides=[8, 16, 32])),
    tracker=dict(type="MasaTaoTracker", preset="demo"),
)
