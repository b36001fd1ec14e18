"""Pictures are fitted into 1333 x 800 instead of 1024 x 1024."""

wide = dict(
    dataset=dict(
        pipeline=[
            dict(
                type="TransformBroadcaster",
                transforms=[
                    dict(type="LoadImageFromFile"),
                    dict(type="Resize", scale=(1333, 800), keep_ratio=True),
                ],
            ),
            dict(type="PackTrackInputs", meta_keys=("fps",)),
        ]
    )
)
