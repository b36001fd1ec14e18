#!/usr/bin/env python3
"""Our preset `default` beside the trackers of the `trackers` package on the same boxes, in one process.

ByteTrack, OC-SORT and BoT-SORT (its camera-motion compensation on) run with the package's own settings. Every
tracker gets the same boxes, in an order drawn at random for each frame, since true boxes come sorted by identity.
Clips without frames are tracked by motion alone. Prints Markdown: the rows where we lose are marked, and the last rows
are means over the clips.

The options of ours were tuned on these very files. `--perturb N` takes N other copies instead, in which 5 % of the
boxes are left out and the others jittered by 1 % of their size; cells are then mean±standard deviation over the copies.

    pip install ".[bench]"
    python tools/bench_peers.py ../shared/clips --out runs/peers.json
    python tools/bench_peers.py ../shared/clips --perturb 4 --jobs 2
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from clip_boxes import (
    CACHE,
    DROP,
    JITTER,
    KINDS,
    PEERS,
    ClipBoxes,
    Looks,
    Ours,
    Update,
    benchmark_clips,
    draw,
    frames_of,
    has_kind,
    idf1_and_hota,
    in_processes,
    peer,
    read_boxes,
    tracks_of,
    truth_of,
    video_of,
)

from masa_track.association import AppearancePrior

SCORES = ("idf1", "hota")
FILTERED, OFFLINE = "ours filtered", ("ours", "BoT-SORT")
Rows = list[tuple[int, np.ndarray, np.ndarray]]


class Task(NamedTuple):
    """The runs on one kind of boxes of one clip: strides, draws (0: the boxes as they are), prior, options of ours."""

    boxes: ClipBoxes
    strides: list[int]
    draws: list[int]
    prior: AppearancePrior | None
    options: dict[str, Any]
    offline: bool


def run(task: Task) -> list[dict[str, Any]]:
    """IDF1, HOTA and ms a frame of every tracker, for each stride and draw; pictures are read once."""
    boxes, clip = task.boxes, task.boxes.clip
    with_frames = video_of(clip) is not None
    options = task.options if boxes.embeddings is not None else {**task.options, "use_appearance": False}
    runs: dict[tuple[int, int, str], tuple[ClipBoxes, Update, Rows, list[float]]] = {}
    for number in task.draws:
        copy = draw(boxes, number)
        for stride in task.strides:
            runs[stride, number, "ours"] = copy, Ours(boxes.fps, boxes.size, task.prior, options), [], []
            for name, tracker in PEERS.items():
                runs[stride, number, name] = copy, peer(tracker, with_frames), [], []
    for number, image in frames_of(clip)[3]:
        for (stride, _, _), (copy, update, rows, times) in runs.items():
            if (number - 1) % stride == 0:
                seen = copy.frame(number, image)
                started = time.perf_counter()
                ids = update(seen)
                times.append(time.perf_counter() - started)
                rows.append((number, ids, seen.boxes))
    table = []
    for (stride, number, name), (copy, update, rows, times) in runs.items():
        truth = truth_of(clip, stride)
        entry = {"clip": clip.name, "boxes": boxes.kind, "stride": stride, "draw": number}
        idf1, hota = idf1_and_hota(truth, tracks_of(rows))
        if isinstance(update, Ours):
            scores = dict(zip(SCORES, idf1_and_hota(truth, tracks_of(update.filtered(rows))), strict=True))
            table.append({**entry, "tracker": FILTERED, **scores})
        table.append({**entry, "tracker": name, "ms": 1e3 * float(np.mean(times)), "idf1": idf1, "hota": hota})
        if task.offline and name in OFFLINE:
            idf1, hota = idf1_and_hota(truth, tracks_of(finished(rows, copy, update)))
            table.append({**entry, "tracker": f"{name} offline", "idf1": idf1, "hota": hota})
    return table


def finished(rows: Rows, boxes: ClipBoxes, update: Update) -> Rows:
    """The tracks after the offline pass, in the frames tracked; ours with its births, which the others do not tell."""
    from masa_track.association import offline

    numbers = np.array([number for number, _, _ in rows])
    ids = [each for _, each, _ in rows]
    if isinstance(update, Ours):
        ids = offline.show_births(ids, numbers.tolist(), update.events)
    kept = [each >= 0 for each in ids]
    frames = np.repeat(numbers, [int(each.sum()) for each in kept])
    found = np.concatenate([of[each] for (_, _, of), each in zip(rows, kept, strict=True)])
    scores = np.concatenate([boxes.scores[boxes.at(n)][each] for n, each in zip(numbers.tolist(), kept, strict=True)])
    every = np.concatenate([each[some] for each, some in zip(ids, kept, strict=True)])
    cuts = [event.number for event in getattr(update, "events", ()) if event.kind == "cut"]
    done = offline.finish(frames, every, found, scores, boxes.fps, tracked=numbers, cuts=np.array(cuts, np.int64))
    return [(n, done.ids[done.frames == n], done.boxes[done.frames == n]) for n in numbers.tolist()]


def trackers_of(offline: bool) -> list[str]:
    """The columns of the table."""
    return ["ours", *PEERS, FILTERED, *(f"{name} offline" for name in OFFLINE if offline)]


def cell(values: Sequence[float], bold: bool) -> str:
    """Mean, and standard deviation where there are several."""
    shown = f"**{np.mean(values):.3f}**" if bold else f"{np.mean(values):.3f}"
    return shown + (f"±{np.std(values, ddof=1):.3f}" if len(values) > 1 else "")


def row(head: str, cells: dict[str, dict[str, list[float]]], names: Sequence[str]) -> str:
    """A row of the table; bold is the best of a score, and a cross marks that we are not, before any offline pass.

    Args:
        head: what the row is of.
        cells: by tracker and score, a value for each draw.
        names: the trackers, in the order of the columns.
    """
    shown, lost = [], False
    for score in SCORES:
        means = {name: round(float(np.mean(cells[name][score])), 3) for name in names}
        lost |= means["ours"] < max(means[name] for name in ("ours", *PEERS))
        shown += [cell(cells[name][score], means[name] == max(means.values())) for name in names]
    return f"| {head} | {'✗' if lost else ''} | {' | '.join(shown)} |"


def cells_of(entries: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """By tracker and score, the mean over clips of each draw."""
    draws = sorted({entry["draw"] for entry in entries})
    return {
        name: {
            score: [
                float(np.mean([e[score] for e in entries if e["tracker"] == name and e["draw"] == number]))
                for number in draws
            ]
            for score in SCORES
        }
        for name in names
    }


def mean_rows(table: Sequence[dict[str, Any]], names: Sequence[str]) -> list[str]:
    """The last block: means over the clips for each kind of boxes and stride, and our lead over the best peer."""
    lines = []
    for kind, stride in dict.fromkeys((entry["boxes"], entry["stride"]) for entry in table):
        of = [entry for entry in table if (entry["boxes"], entry["stride"]) == (kind, stride)]
        cells = cells_of(of, names)
        leads = []
        for score in SCORES:
            best = max(PEERS, key=lambda name, score=score: float(np.mean(cells[name][score])))  # type: ignore[misc]
            lead = np.subtract(cells["ours"][score], cells[best][score])
            spread = f"±{lead.std(ddof=1):.3f}" if len(lead) > 1 else ""
            leads.append(f"{score.upper()} {lead.mean():+.3f}{spread} over {best}")
        count = len({entry["clip"] for entry in of})
        lines.append(f"{row(f'mean of {count} | {kind} | {stride}', cells, names)} {'; '.join(leads)} |")
    return lines


def main() -> None:
    """Prints a row a clip, kind of boxes and stride, and the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, help="folder with mot15/, mot15_gt_only/, moving/ and collage_dev/")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these clips alone")
    parser.add_argument("--boxes", nargs="+", choices=KINDS, default=list(KINDS), help="default: all")
    parser.add_argument("--strides", type=int, nargs="+", default=[1, 10, 20], metavar="N")
    parser.add_argument("--perturb", type=int, default=0, metavar="N", help="perturbed copies; 0 (default): the files")
    parser.add_argument("--offline", action="store_true", help="also ours and BoT-SORT after the offline pass")
    parser.add_argument("--model", default="nano", metavar="NAME", help="default: %(default)s; 'none': motion alone")
    parser.add_argument("--checkpoint", metavar="FILE", help="other weights for the model")
    parser.add_argument("--cache", type=Path, default=CACHE, metavar="DIR", help="of embeddings (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (default: %(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", help="change an option of ours")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write all figures as JSON, too")
    args = parser.parse_args()
    from masa_track.cli.track import parse_options

    looks = Looks(args.model, args.checkpoint, args.cache)
    draws = list(range(1, args.perturb + 1)) or [0]
    tasks = [
        Task(
            looks.of(read_boxes(clip, kind)),
            [1] if clip.name == "collage_dev" else args.strides,
            draws,
            looks.prior,
            parse_options(args.set),
            args.offline,
        )
        for clip in benchmark_clips(args.clips, args.only)
        for kind in args.boxes
        if has_kind(clip, kind)
    ]
    if args.perturb:
        print(
            f"{args.perturb} perturbed copies: {DROP:.0%} of the boxes left out, centre, width and height with normal "
            f"noise of {JITTER:.0%} of the box size (standard deviation). Cells: mean±standard deviation over copies.\n"
        )
    names = trackers_of(args.offline)
    heads = " | ".join(f"{score} {name}" for score in ("IDF1", "HOTA") for name in names)
    print(f"| clip | boxes | stride | lost | {heads} |\n|---|---|---|---|{'---|' * 2 * len(names)}")
    done: dict[int, list[dict[str, Any]]] = {}
    order = {id(task): place for place, task in enumerate(tasks)}
    shown = 0
    for task, table in in_processes(args.jobs, run, tasks):
        done[order[id(task)]] = table
        while shown in done:
            for stride in tasks[shown].strides:
                of = [entry for entry in done[shown] if entry["stride"] == stride]
                head = f"{of[0]['clip']} | {of[0]['boxes']} | {stride}"
                print(row(head, cells_of(of, names), names), flush=True)
            shown += 1
    whole = [entry for place in sorted(done) for entry in done[place]]
    print(f"\n| clips | boxes | stride | lost | {heads} | lead over the best peer |")
    print(f"|---|---|---|---|{'---|' * (2 * len(names) + 1)}")
    print("\n".join(mean_rows(whole, names)))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(whole, indent=2) + "\n")


if __name__ == "__main__":
    main()
