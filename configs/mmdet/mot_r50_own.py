"""MASA-R50 on the boxes of its own detection head: tracks objects of any kind."""

_base_ = ["_base_/masa_r50.py", "_base_/mot.py"]
