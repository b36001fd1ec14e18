"""What every configuration for mmdet needs."""

custom_imports = dict(imports=["masa_track.integrations.mmdet"])
default_scope = "mmdet"
default_hooks = dict(logger=dict(type="LoggerHook", interval=50))
env_cfg = dict(dist_cfg=dict(backend="nccl"))
