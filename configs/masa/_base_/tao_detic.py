"""TAO with the classes of LVIS v1 and Detic's public detections; ``task`` is the model's part of it."""

_base_ = ["../../mmdet/_base_/tao.py"]

task = dict(
    benchmark="tao",
    load_public_dets=True,
    public_det_path="results/public_dets/tao_val_dets/teta_50_internms/detic_tao_val_det/",
    tracker=dict(_delete_=True, type="MasaTaoTracker", preset="tao"),
)
test_evaluator = dict(metric=["TETA"])
