"""MTTR on data of your own: COCO-VID json with a ``sentence`` for each track, from the weights of another training.

    python tools/train.py configs/refer/own.py --cfg-options train_dataloader.dataset.root=pictures \\
        train_dataloader.dataset.annotations=tracks.json model.weights=refer-youtube-vos_window-12.pth.tar
"""

_base_ = ["ytvos_w12.py"]

model = dict(weights="refer-youtube-vos_window-12.pth.tar", video_weights=None, text_weights=None)
train_dataloader = dict(
    dataset=dict(_delete_=True, type="CocoVidSentences", root="pictures", annotations="tracks.json", window=12)
)
optim_wrapper = dict(optimizer=dict(lr=4e-5))
train_cfg = dict(max_epochs=10)
custom_hooks = [dict(type="ReferExportHook", trained_on="own", window=12)]
