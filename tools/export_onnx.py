"""Writes the ONNX files of nano from the trained weights that the package ships, and prints their SHA-256.

The first one goes into masa_track/registry.py and all into masa_track/models/weights/nano.md. The extra ``onnx`` is needed.

    python tools/export_onnx.py [--out masa_track/models/weights]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from masa_track.models.checkpoints import sha256
from masa_track.encoders.export import write_onnx
from masa_track.registry import spec_of


def main() -> None:
    """Reads the command line and writes the files."""
    spec = spec_of("nano")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=spec.onnx.parent, help="folder (default: that of the weights)")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for file in write_onnx(spec.weights, out / spec.onnx.name):
        print(f"{sha256(file)}  {file}  {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
