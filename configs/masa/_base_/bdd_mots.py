"""BDD100K MOTS with UNINEXT's public detections, scored by masks as the benchmark does."""

_base_ = ["bdd_mot.py"]

task = dict(with_segm=True, public_det_path="results/public_dets/bdd_mots_val_uninext_dets/")
test_dataloader = dict(dataset=dict(ann_file="data/bdd/annotations/seg_track_val_cocofmt.json"))
test_evaluator = dict(with_mask=True, scalabel_gt="data/bdd/annotations/scalabel_gt/seg_track_20/val/")
