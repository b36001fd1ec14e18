#!/usr/bin/env python3
"""Shares of right objects of a network trained on synthetic clips, on clips it has not seen, beside four rules.

    python tools/bench_refer.py runs/refer2/model.safetensors
    python tools/bench_refer.py runs/refer1/model.safetensors --kinds motion
    python tools/bench_refer.py runs/refer2/model.safetensors --film 20

An object is right if the IoU of the selected masks with its own, over the clip, is above 0.5. A sentence needs an
attribute if without its words it fits two objects or more. Intervals: 95%, by drawing clips anew.

With --film, films of 60 s, 120 frames, whose objects leave and return: `masa-track track` with the true boxes, then
`masa-track refer --run` with the network as --referrer. An answer is right if most boxes of its track are the object's.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import cv2
import numpy as np
import torch

from masa_track.cli.main import main as masa_track
from masa_track.errors import InputError
from masa_track.formats.run import read_run
from masa_track.masks import mask_box
from masa_track.refer.detected import open_referrer
from masa_track.refer.scoring import SentenceScore, score_clips, share
from masa_track.refer.sources import read_scene
from masa_track.refer.synthetic import KINDS, Clip, make_film, needed_kinds
from masa_track.refer.watching import watch
from masa_track.refer.weights import load_weights
from masa_track.video.sources import open_source

WAYS = ("network", "random", "largest", "colour", "colour + shape")
FPS = 2  # of films
LEAST_SIDE = 4  # pixels of a box that is given to the tracker


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, help="model.safetensors of trainings, e.g. with several seeds")
    parser.add_argument("--first-seed", type=int, default=1_000_000, help="of the clips (default: %(default)s)")
    parser.add_argument("--clips", type=int, default=200, help="(default: %(default)s)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, help="attributes that sentences name (default: all)")
    parser.add_argument("--film", type=int, default=0, metavar="N", help="ask about N films, in place of clips")
    return parser


def cell(scores: Sequence[SentenceScore], way: str, kind: str | None) -> str:
    """Share and interval as a cell of the table."""
    found, low, high, _ = share(scores, way, None if kind is None else lambda s: kind in s.needs)
    return f"{found:.2f} ({low:.2f}-{high:.2f})"


def with_count(scores: Sequence[SentenceScore]) -> str:
    """The network's share, its interval and the number of sentences."""
    return f"{cell(scores, 'network', None)}, n {len(scores)}"


def write_film(film: Clip, folder: Path) -> dict[tuple[int, int, int], int]:
    """Writes a film as a sequence of MOTChallenge with the boxes of what is seen of its objects.

    Args:
        film: of :func:`~masa_track.refer.synthetic.make_film`.
        folder: gets ``img1``, ``seqinfo.ini`` and ``det.txt``.

    Returns:
        The object of each box, by frame, left and top pixel.
    """
    (folder / "img1").mkdir(parents=True)
    count, height, width, _ = film.video.shape
    things, rows = {}, []
    for t in range(count):
        cv2.imwrite(str(folder / "img1" / f"{t + 1:06d}.png"), film.video[t, ..., ::-1])
        for thing, mask in enumerate(film.masks[:, t]):
            box = mask_box(mask)
            if box is None or min(box[2] - box[0], box[3] - box[1]) < LEAST_SIDE:
                continue
            x, y, right, bottom = (int(v) for v in box)
            rows.append(f"{t + 1},-1,{x + 1},{y + 1},{right - x},{bottom - y},0.9")
            things[t + 1, x, y] = thing
    (folder / "det.txt").write_text("\n".join(rows) + "\n")
    (folder / "seqinfo.ini").write_text(
        f"[Sequence]\nname=film\nimDir=img1\nframeRate={FPS}\nseqLength={count}\nimWidth={width}\nimHeight={height}\n"
        "imExt=.png\n"
    )
    return things


def ask_film(model: Path, number: int, film: Clip, folder: Path) -> tuple[list[SentenceScore], Counter[str], int]:
    """Tracks a film and asks all of its sentences.

    Args:
        model: the weights.
        number: of the film.
        film: of :func:`~masa_track.refer.synthetic.make_film`.
        folder: an empty one.

    Returns:
        For each sentence the scores of ``refer --run`` and of the ``network``, whose best track answers without the
        grammar; how often ``refer --run`` used what; and the number of tracks.
    """
    things = write_film(film, folder / "film")
    run, out = folder / "run", folder / "answers.json"
    boxes = ["--detections", str(folder / "film" / "det.txt"), "--no-video", "--out", str(run)]
    with contextlib.redirect_stdout(StringIO()), contextlib.redirect_stderr(StringIO()) as told:
        for line in (
            ["track", str(folder / "film"), *boxes],
            ["refer", "--run", str(run), *film.sentences, "--referrer", str(model), "--json", str(out)],
        ):
            if masa_track(line):
                raise InputError(f"masa-track {line[0]} ended with an error: {told.getvalue()[-500:]}")
    tracks = read_run(run)
    votes: dict[int, Counter[int]] = {}
    for row, identity, box in zip(tracks.rows, tracks.ids.tolist(), tracks.boxes.round().astype(int), strict=True):
        votes.setdefault(identity, Counter())[things[int(tracks.frames[row]), int(box[0]), int(box[1])]] += 1
    owner = {identity: counted.most_common(1)[0][0] for identity, counted in votes.items()}
    answers = json.loads(out.read_text())
    session = watch(read_scene(run), open_source(str(folder / "film")), open_referrer(str(model)), film.sentences)
    scores = []
    for i, (sentence, answer) in enumerate(zip(film.sentences, answers, strict=True)):
        found = {"refer --run": answer["answer"], "network": session.answer(i)[0]}
        right = {way: float(owner.get(identity) == i) for way, identity in found.items()}
        right["random"] = 1 / len(film.objects)
        moves = film.objects[i]["motion"] != "still"
        scores.append(SentenceScore(number, frozenset(needed_kinds(sentence, film.objects)), moves, right, 0.0))
    return scores, Counter(answer["used"] for answer in answers), len(owner)


def films(model: Path, seeds: Sequence[int]) -> None:
    """Prints the table of films beside the network's scores of clips with the same seeds."""
    scores: list[SentenceScore] = []
    used: Counter[str] = Counter()
    tracks = objects = 0
    for number, seed in enumerate(seeds):
        film = make_film(seed)
        with tempfile.TemporaryDirectory() as folder:
            found, counted, kept = ask_film(model, number, film, Path(folder))
        scores, used, tracks, objects = scores + found, used + counted, tracks + kept, objects + len(film.objects)
        print(f"film {number + 1} of {len(seeds)}", file=sys.stderr)
    clips = score_clips(load_weights(model, "synthetic").network, range(seeds[0], seeds[0] + 200))
    print(f"\n{model}: {len(seeds)} films of 60 s from seed {seeds[0]}, {objects} objects, {tracks} tracks")
    print(
        "\n| sentences | n | refer --run | network, tracks | random | network, 200 clips |\n|---|---|---|---|---|---|"
    )
    for kind in (None, *KINDS):
        count = sum(kind is None or kind in s.needs for s in scores)
        cells = " | ".join(cell(scores, way, kind) for way in ("refer --run", "network", "random"))
        name = "all" if kind is None else f"need {kind}"
        print(f"| {name} | {count} | {cells} | {cell(clips, 'network', kind)} |")
    print(f"\nrefer --run used: {', '.join(f'{name} {n}' for name, n in used.most_common())}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the tables. Returns the exit status."""
    args = make_parser().parse_args(arguments)
    torch.set_num_threads(1)
    seeds = range(args.first_seed, args.first_seed + args.clips)
    try:
        for path in args.models:
            if args.film:
                films(path, range(args.first_seed, args.first_seed + args.film))
                continue
            network = load_weights(path, "synthetic").network
            scores = score_clips(network, seeds, args.kinds)
            print(f"\n{path}: {args.clips} clips from seed {args.first_seed}, kinds: {' '.join(args.kinds or KINDS)}")
            print(f"\n| sentences | n | {' | '.join(WAYS)} |\n|{'---|' * (len(WAYS) + 2)}")
            for kind in (None, *(args.kinds or KINDS)):
                count = sum(kind is None or kind in s.needs for s in scores)
                cells = " | ".join(cell(scores, way, kind) for way in WAYS)
                print(f"| {'all' if kind is None else f'need {kind}'} | {count} | {cells} |")
            print(f"\nmean IoU {np.mean([s.iou for s in scores]):.2f}")
            for play in ("backwards", "opposite"):
                played = [s for s in score_clips(network, seeds, args.kinds, play) if "motion" in s.needs and s.moves]
                print(f"{play}, moving objects whose sentence needs motion: {with_count(played)}")
                if play == "backwards":
                    groups = [[s for s in played if s.other_fits == fits] for fits in (True, False)]
                    print(f"  another object then fits the sentence: {with_count(groups[0])}")
                    print(f"  none fits: {with_count(groups[1])}; a random object: {share(groups[1], 'random')[0]:.2f}")
                    chance = sum(s.right["random"] for s in groups[1]) / max(1, len(played))
                    print(f"  always the object that fits, and a random one where none does: {chance:.2f}")
    except InputError as error:
        print(f"bench_refer.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
