"""mmdet's Grounding DINO (Swin-T): what the text names, with identities by MASA-R50; give model.detector_checkpoint."""

_base_ = ["_base_/masa_r50.py", "_base_/mot.py"]

model = dict(
    detector="mmdet::grounding_dino/grounding_dino_swin-t_pretrain_obj365_goldg_cap4m.py",
    text="a person",
    rpn_head=None,
    roi_head=None,
)
