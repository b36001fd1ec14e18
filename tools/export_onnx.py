"""Writes the ONNX files of nano from the trained weights that the package ships, and prints their SHA-256.

The first one goes into masa_track/registry.py and all into masa_track/models/weights/nano.md. Needs the extra ``onnx``.

    python tools/export_onnx.py [--out masa_track/models/weights]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from masa_track.encoders.export import write_onnx
from masa_track.models.checkpoints import sha256

WEIGHTS = Path(__file__).parents[1] / "masa_track" / "models" / "weights"


def main() -> None:
    """Reads the command line and writes the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder (default: that of the weights)")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for file in write_onnx(WEIGHTS / "nano.safetensors", out / "nano.onnx"):
        print(f"{sha256(file)}  {file}  {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
