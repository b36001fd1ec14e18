"""TAO with the classes of LVIS v0.5 and TETer's public detections."""

_base_ = ["tao_detic.py"]

task = dict(public_det_path="results/public_dets/tao_val_dets/teta_50_internms/teter_swinT_tao_val_internms_50/")
test_dataloader = dict(
    dataset=dict(type="Taov05Dataset", ann_file="data/tao/annotations/tao_val_lvis_v05_classes.json")
)
