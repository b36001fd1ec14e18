"""BDD100K's validation set, its labels as COCO-VID json."""

_base_ = ["coco_vid.py"]

test_dataloader = dict(
    dataset=dict(
        type="BDDVideoDataset",
        ann_file="data/bdd/annotations/box_track_20/box_track_val_cocofmt.json",
        data_prefix=dict(img_path="data/bdd/bdd100k/images/track/val"),
    )
)
test_evaluator = dict(type="BDDTETAMetric")
