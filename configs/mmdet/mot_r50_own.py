"""MASA-R50 on whatever it takes for a thing itself: track everything."""

_base_ = ["_base_/masa_r50.py", "_base_/mot.py"]
