"""Folders of MOTChallenge or DanceTrack: data_root/SEQUENCE/img1 and gt/gt.txt."""

_base_ = ["runtime.py", "pipeline.py"]

test_dataloader = dict(
    batch_size=1,
    num_workers=1,
    sampler=dict(type="VideoSampler"),
    dataset=dict(type="MotFolderDataset", data_root="data/MOT17/train", pipeline={{_base_.test_pipeline}}),
)
test_evaluator = dict(type="MotFolderMetric")  # against the same folders
test_cfg = dict(type="TestLoop")
