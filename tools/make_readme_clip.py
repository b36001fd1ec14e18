#!/usr/bin/env python3
"""Makes the README's moving picture: an animated WebP of a part of a run's video.mp4, with its boxes and identities.

masa-track demo
python tools/make_readme_clip.py masa-track-demo/video.mp4 docs/images/demo.webp
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import av
from PIL import Image


def read_frames(video: Path, start: float, seconds: float, fps: float, width: int) -> list[Image.Image]:
    """Frames of a part of a video.

    Args:
        video: a video file.
        start: first moment, in seconds.
        seconds: length of the part.
        fps: frames a second to keep.
        width: width of the pictures in pixels; the aspect ratio is kept.
    """
    frames: list[Image.Image] = []
    with av.open(str(video)) as container:
        for frame in container.decode(video=0):
            if frame.time is None or frame.time < start + len(frames) / fps:
                continue
            if frame.time >= start + seconds:
                break
            picture = frame.to_image()
            frames.append(
                picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)
            )
    return frames


def main() -> int:
    """Reads the arguments, writes the picture, prints its size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path, help="video.mp4 of a run")
    parser.add_argument("out", type=Path, help="the .webp or .gif to write")
    parser.add_argument("--start", type=float, default=0.0, metavar="SECONDS", help="default: %(default)s")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="length of the part (default: all, at most a minute)"
    )
    parser.add_argument("--fps", type=float, default=8.0, help="frames a second (default: %(default)s)")
    parser.add_argument("--width", type=int, default=480, help="pixels (default: %(default)s)")
    parser.add_argument("--quality", type=int, default=45, help="of WebP, 0..100 (default: %(default)s)")
    args = parser.parse_args()
    frames = read_frames(args.video, args.start, args.seconds, args.fps, args.width)
    if not frames:
        print(f"{args.video} has no frame from second {args.start} on", file=sys.stderr)
        return 2
    options = {"quality": args.quality, "method": 6} if args.out.suffix == ".webp" else {}
    frames[0].save(
        args.out, save_all=True, append_images=frames[1:], duration=round(1000 / args.fps), loop=0, **options
    )
    print(
        f"{args.out}: {len(frames)} frames of {frames[0].width} x {frames[0].height}, {args.out.stat().st_size:,} bytes"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
