"""SA-1B as published: 200,000 photographs an epoch, views of 1024 x 1024, eight a GPU on eight GPUs."""

train_dataloader = dict(
    batch_size=8,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type="PhotoSampler", samples=200_000),
    dataset=dict(
        type="TwoViews",
        regions="data/sa1b/regions.json",
        images="data/sa1b/images",
        size=(1024, 1024),
        settings="strong",
    ),
)
sync_bn = "torch"  # statistics of all GPUs together, as published; without effect on one
