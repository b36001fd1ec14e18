"""Open-vocabulary MOT: as tao_detic.py, with scores of base and of novel (rare) classes."""

_base_ = ["tao_detic.py"]

test_evaluator = dict(open_vocabulary=True)
