"""Any COCO-VID json."""

_base_ = ["runtime.py", "pipeline.py"]

test_dataloader = dict(
    batch_size=1,
    num_workers=1,
    sampler=dict(type="VideoSampler"),
    dataset=dict(
        type="CocoVidDataset",
        ann_file="data/videos/annotations.json",
        data_prefix=dict(img_path="data/videos/images"),
        pipeline={{_base_.test_pipeline}},
    ),
)
test_evaluator = dict(type="CocoVidMetric")  # against the same json
test_cfg = dict(type="TestLoop")
