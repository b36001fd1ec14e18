"""MASA-R50 trained as published, by mmdet's keys: tools/train.py runs it, and so does mmdet's own runner."""

_base_ = ["_base_/masa_r50.py", "../_base_/schedule.py"]

custom_imports = dict(imports=["masa_track.integrations.mmdet"])
default_scope = "mmdet"

model = dict(freeze_masa_backbone=True, given_dets=True)
train_dataloader = dict(
    batch_size=8,
    num_workers=8,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type="PhotoSampler", samples=200_000),
    dataset=dict(
        type="MASADataset",
        ann_file="data/sa1b/regions.json",
        data_prefix=dict(img="data/sa1b/images"),
        size=(1024, 1024),
        settings="strong",
    ),
)
train_cfg = dict(_delete_=True, type="EpochBasedTrainLoop", max_epochs=12)
custom_hooks = []
