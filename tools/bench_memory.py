#!/usr/bin/env python3
"""Shows that memory does not grow with the length of a video: peak RSS of `masa-track track` on a short and a long one.

Both are the same clip played over and over (by default the demo's), written to H.264 files first; each is tracked by
the command in a process of its own, video and report included.

    python tools/bench_memory.py
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import av

from masa_track.cli.demo import demo_clip
from masa_track.video.sources import open_source


def looped(clip: Path, frames: int, path: Path) -> None:
    """Writes ``frames`` frames of the clip, from its start again each time it ends."""
    source = open_source(str(clip))

    def forever():  # type: ignore[no-untyped-def]
        while True:
            yield from source.frames()

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = source.width // 2 * 2, source.height // 2 * 2, "yuv420p"
        for frame in islice(forever(), frames):
            picture = frame.image[: stream.height, : stream.width]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode())


def peak_megabytes(video: Path, out: Path, options: list[str]) -> tuple[float, float]:
    """Peak RSS in MB of tracking a video, and the seconds it took."""
    command = [sys.executable, "-m", "masa_track.cli.main", "track", str(video), "--out", str(out), *options]
    start = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2), time.perf_counter() - start


def main() -> None:
    """Prints both peaks and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", nargs="?", type=Path, help="a video (default: the demo's)")
    parser.add_argument("--frames", type=int, nargs=2, default=[300, 6000], metavar=("SHORT", "LONG"))
    args, options = parser.parse_known_args()  # what is not known here goes to `masa-track track`
    options = options or ["--detector", "motion"]
    clip = args.clip or demo_clip()
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        for frames in args.frames:
            video = Path(folder) / f"{frames}.mp4"
            looped(clip, frames, video)
            peak, seconds = peak_megabytes(video, Path(folder) / f"out{frames}", options)
            peaks.append(peak)
            print(f"{frames:6d} frames: peak RSS {peak:7.1f} MB, {frames / seconds:.1f} frames a second", flush=True)
    print(f"ratio {peaks[1] / peaks[0]:.3f}")


if __name__ == "__main__":
    main()
