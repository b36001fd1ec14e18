#!/usr/bin/env python3
"""IDF1 of other libraries' trackers on a clip's true boxes, without appearance and with our embeddings.

Both runs are the same tracker of the same package in one process, on the same boxes, in an order drawn at random for
each frame. Every option that is not the library's default is below, in the function of the library; the largest cosine
distance of a match, the same for all, was chosen on the benchmark clips; `--gates` tries others. A library that is not
installed is left out: their versions conflict, so two environments are needed, which the first line makes.

    python tests/environments.py
    .venv-peers/bin/python tools/bench_adapters.py ../shared/clips/mot15/TUD-Campus --strides 1 10 20
    .venv-trackers2/bin/python tools/bench_adapters.py ../shared/clips/mot15/TUD-Campus --strides 1 10 20
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import supervision as sv
from clip_boxes import frames_of, read_boxes, tracks_of, truth_of

from masa_track import load
from masa_track.errors import InputError
from masa_track.evaluation.scores import score_sequences

GATE = 0.7  # the largest cosine distance of a match, for the shipped `nano`
Step = Callable[[sv.Detections, np.ndarray], np.ndarray]  # a frame's boxes and picture -> (N,) ids, -1 = none


def roboflow(model: Any, gate: float) -> Step:
    """trackers 2.0: DeepSORT, whose appearance is switched off by its weight. With it, boxes need not overlap."""
    from trackers.core.deepsort.tracker import DeepSORTTracker  # gone in later releases

    from masa_track.adapters.roboflow import FeatureExtractor

    options: dict[str, Any] = {"minimum_consecutive_frames": 1, "lost_track_buffer": 60}
    if model is None:
        tracker = DeepSORTTracker(FeatureExtractor(_Blind()), appearance_weight=0.0, **options)
    else:
        tracker = DeepSORTTracker(
            FeatureExtractor(model),
            appearance_weight=0.75,
            minimum_iou_threshold=0.0,
            appearance_threshold=gate,
            **options,
        )
    tracker.reset()
    return lambda detections, frame: _ids(detections, tracker.update(detections, frame))


def boxmot(model: Any, gate: float) -> Step:
    """BoxMOT's BoT-SORT. With appearance, boxes need not overlap."""
    from boxmot import BotSort

    from masa_track.adapters.boxmot import ReIDModel

    options: dict[str, Any] = {"use_embeddings": False}
    if model is not None:
        options = {"reid_model": ReIDModel(model), "proximity_thresh": 1.0, "appearance_thresh": gate}
    tracker = BotSort(track_buffer=60, use_cmc=False, **options)

    def step(detections: sv.Detections, frame: np.ndarray) -> np.ndarray:
        count = len(detections)
        rows = np.concatenate([detections.xyxy, np.ones((count, 1)), np.zeros((count, 1))], axis=1)
        tracks = tracker.update(rows.astype(np.float32), frame)  # x1 y1 x2 y2 id score class row
        ids = np.full(count, -1, np.int64)
        ids[tracks[:, 7].astype(int)] = tracks[:, 4].astype(int)
        return ids

    return step


def deepsort(model: Any, gate: float, memory: int = 60) -> Step:
    """deep-sort-realtime. Without appearance its cosine gate lets nothing through, and overlap decides alone.

    Tracks are remembered for ``memory`` frames.
    """
    from deep_sort_realtime.deepsort_tracker import DeepSort

    from masa_track.adapters.deepsort import update_tracks

    most = -1.0 if model is None else gate
    tracker = DeepSort(embedder=None, n_init=1, max_age=memory, max_cosine_distance=most, gating_only_position=True)
    embeds = _Blind() if model is None else model
    return lambda detections, frame: np.asarray(update_tracks(tracker, embeds, detections, frame).tracker_id)


def norfair(model: Any, gate: float) -> Step:
    """norfair: overlap alone; or appearance alone, also for re-identification."""
    from norfair import Tracker

    from masa_track.adapters.norfair import embedding_distance, with_embeddings

    options: dict[str, Any] = {"distance_function": "iou", "distance_threshold": 0.7}
    if model is not None:
        options = {"distance_function": embedding_distance, "distance_threshold": gate}
        options |= {"reid_distance_function": embedding_distance, "reid_distance_threshold": gate}
        options |= {"reid_hit_counter_max": 60}
    tracker = Tracker(initialization_delay=0, **options)
    embeds = _Blind() if model is None else model

    def step(detections: sv.Detections, frame: np.ndarray) -> np.ndarray:
        given = with_embeddings(embeds, detections, frame)
        ids = np.full(len(detections), -1, np.int64)
        for each in tracker.update(given):
            if any(each.last_detection is one for one in given):  # not only remembered
                ids[each.last_detection.data] = each.id
        return ids

    return step


def ultralytics(model: Any, gate: float, memory: int = 60) -> Step:
    """ultralytics' BoT-SORT, which takes half the distance. With appearance, boxes need not overlap.

    Tracks are remembered for ``memory`` frames.
    """
    from ultralytics.engine.results import Boxes
    from ultralytics.trackers import BOTSORT
    from ultralytics.utils import YAML, IterableSimpleNamespace
    from ultralytics.utils.checks import check_yaml

    from masa_track.adapters.ultralytics import features

    settings = {**YAML.load(check_yaml("botsort.yaml")), "gmc_method": "none", "track_buffer": memory}
    if model is not None:
        settings |= {"with_reid": True, "model": "auto", "proximity_thresh": 0.0, "appearance_thresh": 1 - gate / 2}
    tracker = BOTSORT(IterableSimpleNamespace(**settings))

    def step(detections: sv.Detections, frame: np.ndarray) -> np.ndarray:
        count = len(detections)
        rows = np.concatenate([detections.xyxy, np.ones((count, 1)), np.zeros((count, 1))], axis=1, dtype=np.float32)
        boxes = Boxes(rows, frame.shape[:2])
        feats = None if model is None else features(model, boxes, frame)
        tracks = tracker.update(boxes, frame, feats=feats)  # x1 y1 x2 y2 id score class row
        ids = np.full(count, -1, np.int64)
        if len(tracks):
            ids[tracks[:, -1].astype(int)] = tracks[:, 4].astype(int)
        return ids

    return step


LIBRARIES = {each.__name__: each for each in (roboflow, boxmot, deepsort, norfair, ultralytics)}


class Once:
    """A model that embeds no box of a picture twice, so that all trackers together cost as much as one."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.known: dict[tuple[bytes, bytes], np.ndarray] = {}

    def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """(N, D) of (N, 4) xyxy boxes in a frame (H, W, 3)."""
        picture = hashlib.sha256(frame.tobytes()).digest()
        keys = [(picture, np.round(box, 2).tobytes()) for box in np.asarray(boxes, np.float32) + 0.0]
        new = [row for row, key in enumerate(keys) if key not in self.known]
        if new:
            embeddings = self.model.embed(frame, boxes[new])
            self.known |= {keys[row]: embedding for row, embedding in zip(new, embeddings, strict=True)}
        return np.stack([self.known[key] for key in keys]) if keys else self.model.embed(frame, boxes)


class _Blind:
    """A model that gives all boxes the same embedding."""

    def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        return np.ones((len(boxes), 4), np.float32)


def _ids(detections: sv.Detections, tracked: sv.Detections) -> np.ndarray:
    """Ids by row: trackers 2.0 leaves rows out."""
    ids = np.full(len(detections), -1, np.int64)
    for box, identity in zip(tracked.xyxy, np.asarray(tracked.tracker_id), strict=True):
        ids[(detections.xyxy == box).all(axis=1).argmax()] = identity
    return ids


def idf1(clip: Path, stride: int, step: Step) -> float:
    """IDF1 of one run on every ``stride``-th frame, with the true boxes as detections."""
    boxes, rows = read_boxes(clip, "gt"), []
    for number, picture in frames_of(clip)[3]:
        if (number - 1) % stride:
            continue
        if picture is None:
            raise InputError(f"{clip} has no pictures, which embeddings need: take another clip")
        xyxy = boxes.boxes[boxes.at(number)]
        count = len(xyxy)
        detections = sv.Detections(xyxy=xyxy, confidence=np.ones(count, np.float32), class_id=np.zeros(count, int))
        rows.append((number, step(detections, picture), xyxy))
    truth, tracks = truth_of(clip, stride), tracks_of(rows)
    return score_sequences({clip.name: (truth, tracks)}, stride=stride).combined.idf1


def both(library: str, clip: Path, stride: int, model: Any, gate: float = GATE) -> tuple[float, float]:
    """IDF1 of a library's tracker without appearance, and with the model's embeddings."""
    without, ours = (idf1(clip, stride, LIBRARIES[library](each, gate)) for each in (None, model))
    return without, ours


def main() -> None:
    """Prints a Markdown table, a row a library, clip, stride and gate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, nargs="+", help="folders with gt/gt.txt and frames")
    parser.add_argument("--strides", type=int, nargs="+", default=[10], metavar="N")
    parser.add_argument("--libraries", nargs="+", choices=list(LIBRARIES), default=list(LIBRARIES))
    parser.add_argument("--gates", type=float, nargs="+", default=[GATE], metavar="X", help="default: %(default)s")
    parser.add_argument("--model", default="nano", help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there too")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    model = Once(load(args.model, device="cpu"))
    table = []
    print("| tracker | clip | stride | gate | without | with our embeddings |\n|---|---|---|---|---|---|")
    for name, clip, stride in product(args.libraries, args.clips, args.strides):
        for gate in args.gates:
            try:
                without, ours = both(name, clip, stride, model, gate)
            except ImportError as error:
                print(f"{name} left out: {error}", file=sys.stderr)
                break
            row = {"library": name, "clip": clip.name, "stride": stride, "gate": gate, "without": without, "with": ours}
            table.append(row)
            print(f"| {name} | {clip.name} | {stride} | {gate:g} | {without:.2f} | {ours:.2f} |", flush=True)
    if args.json is not None:
        args.json.write_text(json.dumps(table))


if __name__ == "__main__":
    main()
