"""SAM 2's masklets against the numbers of the official code (``goldens/sam2/README.md``), scenario by scenario.

The weights are deterministic, not trained: this shows that the same is computed, not how well it works.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from sam2_networks import build, frames, goldens, official_keys, recipe, small_network

pytest.importorskip("transformers")
import torch

from masa_track.contracts import Features, Frame, Prompt
from masa_track.masklets.sam2 import Decoded, Maps
from masa_track.masklets.session import MaskletSession, SessionOptions

SMALL, TINY, LARGE = "sam2_small", "sam2.1_hiera_tiny_512", "sam2.1_hiera_tiny_1024"
# Of the largest magnitude of an array; scores of at least 1.
TOLERANCE = dict.fromkeys(("mask", "multimask", "video", "pointer", "iou"), 0.001)
TOLERANCE |= {"score": 1e-2, "memory": 2e-2, "positive": 2e-3}
# What each scenario proves beside the plain path.
PROVES = {
    "click": "multi-scale features, three candidates, object pointers over 24 frames, absence",
    "points": "one mask for several points",
    "box": "corners of a box as points",
    "box_and_point": "the box before the points",
    "mask": "memory of a prompted mask from its quarter-size logits",
    "empty_mask": "a mask without pixels is absence",
    "mask_seen": "pointer of a prompted mask",
    "two_clicks": "earlier logits are fed in again",
    "unstable": "a candidate replaces an unstable single mask",
    "short_clip": "temporal positions of pointers in a clip of 6 frames",
    "three_objects": "objects added and removed in the middle",
    "bystander": "memories of others stay soft where an object is prompted",
    "both_ways": "two directions over the same frames",
    "backwards": "distances behind the pass",
    "from_the_future": "prompted frames that come later; only past ones give pointers",
    "correction": "memory and earlier logits in a correction; it stays an ordinary frame",
    "correction_as_prompt": "a correction as a prompted frame",
    "correction_one_click": "three candidates in a correction",
    "correction_with_box": "a box in a correction",
    "many_prompts": "queue of prompted frames: those left out count as recent",
    "no_overlap": "pixels go to the largest logit",
    "own_prompt_again": "a second prompted frame",
}


@functools.cache
def feature_maps(file: str, t: int) -> Maps:
    """Of a frame; no scenario changes the image encoder's weights."""
    network = small_network() if file == SMALL else tiny_network(file)
    with torch.no_grad():
        return network.encode(torch.from_numpy(frames(file)[t])[None])


@functools.cache
def tiny_network(file: str) -> Any:
    return build(goldens(file)[1])


class Replay:
    """Runs the steps of a scenario and compares what they give with the goldens."""

    def __init__(self, file: str, scenario: str, stream: bool, network: Any = None) -> None:
        self.golden, self.info = goldens(file)
        self.file, self.scenario, self.what = file, scenario, self.info["scenarios"][scenario]
        self.network = network or build(self.info, self.what.get("weights"))
        flags = self.what.get("flags", {})
        self.no_overlap = flags.get("non_overlap_masks", False)
        options = SessionOptions(
            bounded=stream,
            clip_length=None if stream else self.what.get("count", self.info["frames"]),
            max_attended_prompts=flags.get("max_cond_frames_in_attn"),
            corrections_are_prompts=flags.get("add_all_frames_to_correct_as_cond", False),
            overlap=not self.no_overlap,
        )
        self.session = MaskletSession(self.network, options)
        self.worst: dict[str, float] = {}

    def frame(self, t: int) -> tuple[Frame, Features]:
        size = (self.info["width"], self.info["height"])
        return Frame(t + 1, t / 25, size), Features(self.network.key, size, feature_maps(self.file, t))

    def run(self) -> dict[str, float]:
        for i, (verb, *rest) in enumerate(self.what["steps"]):
            if verb == "remove":
                self.session.forget(*rest)
            elif verb == "run":
                self._propagate(f"{self.scenario}/{i}", *rest)
            else:
                self._prompt(f"{self.scenario}/{i}", *rest)
        return self.worst

    def _prompt(self, prefix: str, t: int, identity: int, what: Any) -> None:
        width, height = self.info["width"], self.info["height"]
        if isinstance(what, str):
            bits = np.unpackbits(self.golden[f"prompt/{what}"])[: height * width]
            prompt = Prompt(mask=bits.reshape(height, width).astype(bool))
        else:
            points = what.get("points")
            prompt = Prompt(
                points=None if points is None else np.array(points),
                positive=None if points is None else np.array(what["labels"], bool),
                box=None if "box" not in what else np.array(what["box"]),
            )
        calls: list[Decoded] = []
        self._record_calls(calls)
        self.session.open(*self.frame(t))
        self.session.prompt(identity, prompt)
        got = self._entry(identity, None)
        got |= self._candidates(calls[-1], 0)
        self.session.commit()
        self._compare(prefix, got)

    def _propagate(self, prefix: str, first: int, count: int, reverse: bool) -> None:
        order = list(range(first, first - count, -1) if reverse else range(first, first + count))
        ids = self.golden[f"{prefix}/ids"].tolist()
        rows: list[list[dict[str, Any]]] = []
        for t in order:
            calls: list[Decoded] = []
            self._record_calls(calls)
            shown = self.session.propose(*self.frame(t), reverse=reverse)
            decoded = {identity: (calls[0], row) for row, identity in enumerate(self._tracked(t))} if calls else {}
            logits = {i: self.session.logits(i) for i in ids}
            self._check_shown(shown, logits)
            top = np.max(list(logits.values()), axis=0)
            got = []
            for i in ids:
                row = self._entry(i, None)
                if i in decoded:
                    row |= self._candidates(*decoded[i])
                video = logits[i]
                if self.no_overlap and len(ids) > 1:
                    video = np.where(video == top, video, np.minimum(video, -10))
                row["video"] = video[:: self.info["height"] // 12, :: self.info["width"] // 20]
                got.append(row)
            self.session.commit()
            a, b, c = self.info["strides"]["memory"]
            side = self.info["size"] // 16
            for i, row in zip(ids, got, strict=True):
                memory = self.session.entry(i, t + 1).memory
                row["memory"] = memory.float().numpy().T.reshape(-1, side, side)[::a, ::b, ::c]
            rows.append(got)
        for name in ("mask", "positive", "score", "pointer", "cond", "video", "memory"):
            stacked = np.stack([np.stack([row[name] for row in each]) for each in rows])
            self._compare(prefix, {name: stacked})
        for t, each in zip(range(count), rows, strict=True):
            for k, row in enumerate(each):
                for name in ("iou", "multimask"):
                    if name in row:
                        self._compare_arrays(f"{prefix}/{name}", name, self.golden[f"{prefix}/{name}"][t, k], row[name])
        assert self.golden[f"{prefix}/frame"].tolist() == order

    def _tracked(self, t: int) -> list[int]:
        """Objects that the decoder made masks for in frame t, in its order."""
        return [i for i in self.session.ids if not self.session.is_prompted(i)]

    def _record_calls(self, calls: list[Decoded]) -> None:
        decode = type(self.network).decode.__get__(self.network)

        def recorded(*args: Any, **kwargs: Any) -> Decoded:
            calls.append(decode(*args, **kwargs))
            return calls[-1]

        self.network.decode = recorded

    def _entry(self, identity: int, number: int | None) -> dict[str, Any]:
        entry, k = self.session.entry(identity, number), self.info["strides"]["mask"]
        mask = entry.mask.numpy()
        return {
            "mask": mask[::k, ::k],
            "positive": (mask > 0).mean(),
            "score": entry.score,
            "pointer": entry.pointer.numpy(),
            "cond": self.session.is_prompted(identity, number),
        }

    def _candidates(self, decoded: Decoded, row: int) -> dict[str, Any]:
        """Candidates and their predicted IoUs, in any order: the best is compared as the mask."""
        k = self.info["strides"]["multimask"]
        masks = decoded.masks[row].numpy()[:, ::k, ::k]
        missing = 3 - len(masks)
        return {
            "iou": np.concatenate([decoded.qualities[row].numpy(), np.full(missing, np.nan)]),
            "multimask": np.concatenate([masks, np.full((missing, *masks.shape[1:]), np.nan)]),
        }

    def _check_shown(self, shown: Any, logits: dict[int, np.ndarray]) -> None:
        """The masks shown are what the logits say; without overlap the largest logit has the pixel."""
        masks = np.asarray(shown.masks)
        top = np.max(list(logits.values()), axis=0)
        for identity, mask in zip(shown.ids.tolist(), masks, strict=True):
            own = logits[identity]
            np.testing.assert_array_equal(mask, (own > 0) & (own == top) if self.no_overlap else own > 0)

    def _compare(self, prefix: str, got: dict[str, Any]) -> None:
        for name, value in got.items():
            self._compare_arrays(f"{prefix}/{name}", name, self.golden[f"{prefix}/{name}"], np.asarray(value))

    def _compare_arrays(self, key: str, name: str, want: np.ndarray, value: np.ndarray) -> None:
        assert want.shape == value.shape, key
        if want.dtype.kind in "bi":
            np.testing.assert_array_equal(value, want, err_msg=key)
            return
        np.testing.assert_array_equal(np.isnan(value), np.isnan(want), err_msg=key)
        np.testing.assert_array_equal(value == -1024, want == -1024, err_msg=key)
        compared = ~np.isnan(want) & (want != -1024)
        if not compared.any():
            return
        scale = (
            1.0 if name == "positive" else max(float(np.abs(want[compared]).max()), 1.0 if name == "score" else 1e-9)
        )
        difference = float(np.abs(want - value)[compared].max() / scale)
        self.worst[name] = max(self.worst.get(name, 0.0), difference)
        assert difference <= TOLERANCE[name], f"{key}: {difference:.1e}"


def check_inputs(file: str, network: Any) -> None:
    """Frames, weights and feature maps are those that the goldens were made with."""
    golden, info = goldens(file)
    checks, video = info["checks"], frames(file)
    numbers = (0, 10, 23) if file == SMALL else (0, 3, 5)
    for number, total, magnitude in zip(numbers, checks["frame_sum"], checks["frame_abs"], strict=True):
        assert video[number].sum(dtype=np.float64) == pytest.approx(total, abs=1e-3)
        assert np.abs(video[number]).sum(dtype=np.float64) == pytest.approx(magnitude, abs=1e-3)
    filled = recipe().filled(official_keys(info), info["weight_suffix"], info["overrides"])
    total = sum(np.abs(value).sum(dtype=np.float64) for value in filled.values())
    assert total == pytest.approx(checks["weights"], rel=1e-9)
    with torch.no_grad():
        maps = network.encode(torch.from_numpy(video[3])[None])
    sines = network.image_sines[0].T.reshape(maps.coarse.shape[1:])
    found = {f"feature{level}": values[0] for level, values in enumerate((*maps.fine, maps.coarse))}
    for name, values in {**found, "position2": sines}.items():
        some = values.numpy()[tuple(slice(None, None, side // 8) for side in values.shape)]
        want = golden[f"stage/{name}"]
        assert np.abs(some.reshape(want.shape) - want).max() <= 1e-5 * np.abs(want).max(), name


def test_frames_weights_and_features() -> None:
    check_inputs(SMALL, small_network())


def test_every_scenario_says_what_it_proves() -> None:
    assert set(PROVES) == set(goldens(SMALL)[1]["scenarios"])


def scenarios(streams: bool) -> list[Any]:
    """All scenarios as parameters, named by what they prove. Each is quick in one of the two modes, slow in the other.

    A clip of a stated length is encoded otherwise than a stream, officially too: such scenarios are whole clips only.
    """
    params = []
    for name, what in goldens(SMALL)[1]["scenarios"].items():
        is_stream = "count" not in what
        if streams and not is_stream:
            continue
        marks = [pytest.mark.slow] if is_stream and not streams else []
        params.append(pytest.param(name, marks=marks, id=f"{name}: {PROVES[name]}"))
    return params


def replay_small(scenario: str, stream: bool) -> None:
    weights = goldens(SMALL)[1]["scenarios"][scenario].get("weights")
    Replay(SMALL, scenario, stream, None if weights else small_network()).run()


@pytest.mark.parametrize("scenario", scenarios(streams=False))
def test_whole_clip(scenario: str) -> None:
    """Nothing is dropped."""
    replay_small(scenario, stream=False)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", scenarios(streams=True))
def test_stream_with_bounded_memory(scenario: str) -> None:
    """What is dropped is not needed: the numbers are those of the official code, which keeps all."""
    replay_small(scenario, stream=True)


@pytest.mark.slow
def test_hiera_tiny_at_512() -> None:
    check_inputs(TINY, tiny_network(TINY))
    Replay(TINY, "box", False, tiny_network(TINY)).run()


@pytest.mark.slow
@pytest.mark.huge
@pytest.mark.parametrize("scenario", ["session", "both_ways"])
def test_hiera_tiny_at_1024(scenario: str) -> None:
    check_inputs(LARGE, tiny_network(LARGE))
    Replay(LARGE, scenario, False, tiny_network(LARGE)).run()
