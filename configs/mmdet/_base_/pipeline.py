"""A frame read and fitted into 1024 x 1024, as the official models take it; its truth is left to the metric."""

test_pipeline = [
    dict(
        type="TransformBroadcaster",
        transforms=[dict(type="LoadImageFromFile"), dict(type="Resize", scale=(1024, 1024), keep_ratio=True)],
    ),
    dict(type="PackTrackInputs", meta_keys=("fps",)),
]
