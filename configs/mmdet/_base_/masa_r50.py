"""MASA-R50 as published; masa_r50.pth fits it. What is not said has the published value."""

model = dict(
    type="MASA",
    data_preprocessor=dict(
        type="TrackDataPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=dict(type="ResNet", depth=50, style="caffe"),
    masa_adapter=[
        dict(
            type="FPN",
            in_channels=[256, 512, 1024, 2048],
            out_channels=256,
            norm_cfg=dict(type="SyncBN", requires_grad=True),
            num_outs=5,
        ),
        dict(type="DeformFusion", in_channels=256, out_channels=256, num_blocks=3),
    ],
    rpn_head=dict(type="RPNHead", anchor_generator=dict(strides=[4, 8, 16, 32, 64])),
    roi_head=dict(type="StandardRoIHead", bbox_head=dict(type="Shared4Conv1FCBBoxHead")),
    track_head=dict(type="MasaTrackHead"),
    tracker=dict(
        type="MasaTaoTracker",
        init_score_thr=0.1,
        obj_score_thr=0.01,
        match_score_thr=0.5,
        memo_tracklet_frames=10,
        memo_momentum=0.8,
        with_cats=False,
        max_distance=100,
        fps=30,
    ),
)
