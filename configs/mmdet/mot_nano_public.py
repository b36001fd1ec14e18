"""The shipped model on public detections (det/det.txt): nothing to download.

    python tools/test_mot.py configs/mmdet/mot_nano_public.py --cfg-options \\
        test_dataloader.dataset.data_root=MOT15/train model.public_det_path=MOT15/train
"""

_base_ = ["_base_/mot.py"]

model = dict(
    type="MASA",
    network="nano",
    public_det_path="data/MOT17/train",
    tracker=dict(type="MasaTaoTracker", preset="default"),
)
test_pipeline = [
    dict(
        type="TransformBroadcaster",
        transforms=[dict(type="LoadImageFromFile"), dict(type="Resize", scale=(800, 800), keep_ratio=True)],
    ),
    dict(type="PackTrackInputs", meta_keys=("fps",)),
]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
