"""nano on a folder of photographs: a frozen EfficientNet-Lite0, mild views as of a video, hours on a CPU."""

_base_ = ["_base_/masa.py", "_base_/schedule.py"]

model = dict(network="nano", backbone_weights="nano", samples=256)
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type="PhotoSampler"),
    dataset=dict(
        type="TwoViews",
        regions="data/photos/regions.json",
        images="data/photos/images",
        size=(640, 640),
        settings="mild",
        repeats=20,
    ),
)
custom_hooks = [dict(type="ExportHook", backbone=True, half=True)]  # a file that masa_track.load takes
