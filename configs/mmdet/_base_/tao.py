"""TAO's validation set with the classes of LVIS v1."""

_base_ = ["coco_vid.py"]

test_dataloader = dict(
    dataset=dict(
        type="Taov1Dataset",
        ann_file="data/tao/annotations/tao_val_lvis_v1_classes.json",
        data_prefix=dict(img_path="data/tao/frames"),
    )
)
test_evaluator = dict(type="TaoTETAMetric")
