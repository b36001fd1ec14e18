"""BDD100K MOT with YOLOX's public detections, scored as the benchmark does; ``task`` is the model's part of it."""

_base_ = ["../../mmdet/_base_/bdd.py"]

task = dict(
    benchmark="bdd",
    load_public_dets=True,
    public_det_path="results/public_dets/bdd_mot_yolox_dets/",
    tracker=dict(_delete_=True, type="MasaBDDTracker", preset="bdd"),
)
test_evaluator = dict(
    metric=["TETA", "HOTA", "CLEAR"], scalabel_gt="data/bdd/annotations/scalabel_gt/box_track_20/val/"
)
