"""Moving coloured shapes and a sentence about each: a data set that needs colours, shapes, motion and language.

numpy only; the same seed gives the same clip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 80, 230), "yellow": (230, 210, 40)}  # RGB
SHAPES = ("circle", "square", "triangle")
MOTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}  # rows, columns
OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}
KINDS = ("colour", "shape", "motion")
VALUES = {"colour": tuple(COLOURS), "shape": SHAPES, "motion": (*MOTIONS, "still")}  # by kind
# Token ids are places; the first three are RoBERTa's.
WORDS = ["<s>", "<pad>", "</s>", "<unk>", "the", "thing", "moving", "standing", "still", *COLOURS, *SHAPES, *MOTIONS]


@dataclass(frozen=True)
class Clip:
    """A clip, and a sentence about each of its objects, true of that object alone.

    Attributes:
        video: (T, H, W, 3) uint8 RGB.
        masks: (n, T, H, W) bool, what is visible of each object.
        sentences: n.
        objects: n dicts of ``colour``, ``shape`` and ``motion``.
    """

    video: np.ndarray
    masks: np.ndarray
    sentences: list[str]
    objects: list[dict[str, str]]


def encode(sentence: str) -> list[int]:
    """The token ids of a sentence, ``<s>`` and ``</s>`` included; other words are ``<unk>``."""
    return [0, *(WORDS.index(word) if word in WORDS else 3 for word in sentence.split()), 2]


def make_clip(
    seed: int,
    frames: int = 4,
    size: int = 64,
    count: tuple[int, int] = (2, 3),
    still: bool = True,
    twins: float = 0.5,
    kinds: Sequence[str] = KINDS,
    speed: tuple[float, float] = (0.1, 0.14),
) -> Clip:
    """Draws a clip.

    Args:
        seed: of everything.
        frames: T.
        size: pixels of a side.
        count: least and largest number of objects.
        still: whether objects may stand still.
        twins: probability that an object is a copy of another one that differs in one attribute.
        kinds: attributes that sentences name; no two objects are alike in them.
        speed: sides of the picture a frame, least and most.
    """
    rs = np.random.RandomState(seed)
    n = rs.randint(count[0], count[1] + 1)
    objects = _draw_objects(rs, n, still, twins, kinds)
    background = _draw_background(rs, size)
    radii, starts, steps = _draw_paths(rs, objects, frames, size, speed)
    places = np.array(starts)[:, None] + np.arange(frames)[:, None] * np.array(steps)[:, None]
    video, masks = _paint(rs, background, objects, radii, places)
    sentences = [_phrase(rs, i, objects, kinds) for i in range(n)]
    return Clip(video, masks, sentences, objects)


def make_film(seed: int, frames: int = 120, size: int = 64, away: int = 8) -> Clip:
    """Draws a film of objects as those of :func:`make_clip`, which leave the picture and return again and again.

    An object that moves leaves at one edge, and comes back at the opposite one, so that its sentence is true in the
    whole film. Objects may cover each other for a moment.

    Args:
        seed: of everything.
        frames: T.
        size: pixels of a side.
        away: frames between leaving and returning.
    """
    rs = np.random.RandomState(seed)
    objects = _draw_objects(rs, rs.randint(2, 4), True, 0.5, KINDS)
    background = _draw_background(rs, size)
    draws = [_draw_rounds(rs, objects, frames, size, away) for _ in range(20)]
    radii, places = min(draws, key=lambda draw: _times_covered(*draw))
    video, masks = _paint(rs, background, objects, radii, places)
    return Clip(video, masks, [_phrase(rs, i, objects, KINDS) for i in range(len(objects))], objects)


def needed_kinds(sentence: str, objects: Sequence[Mapping[str, str]]) -> set[str]:
    """Attributes without whose words the sentence fits two objects or more."""
    named = attributes(sentence)
    without = {kind: {k: v for k, v in named.items() if k != kind} for kind in named}
    return {kind for kind, left in without.items() if sum(fits(left, o) for o in objects) > 1}


def fits(named: Mapping[str, str], thing: Mapping[str, str]) -> bool:
    """Whether an object has all the attributes that are named."""
    return all(thing[kind] == value for kind, value in named.items())


def attributes(sentence: str) -> dict[str, str]:
    """The colour, shape and motion that a sentence names."""
    found = {}
    for word in sentence.split():
        for kind, known in VALUES.items():
            if word in known:
                found[kind] = word
    return found


def reversed_sentence(sentence: str) -> str:
    """The sentence with opposite directions, which is true of a clip that is played backwards."""
    return " ".join(OPPOSITE.get(word, word) for word in sentence.split())


def mirrored_sentence(sentence: str) -> str:
    """The sentence with left and right exchanged, which is true of a clip that is flipped."""
    return " ".join(OPPOSITE[word] if word in ("left", "right") else word for word in sentence.split())


def _draw_objects(
    rs: np.random.RandomState, n: int, still: bool, twins: float, kinds: Sequence[str]
) -> list[dict[str, str]]:
    """The attributes of n objects, no two alike in ``kinds``."""
    values = VALUES if still else VALUES | {"motion": tuple(MOTIONS)}
    objects: list[dict[str, str]] = []
    while len(objects) < n:
        thing = {kind: str(rs.choice(values[kind])) for kind in KINDS}
        if objects and rs.uniform() < twins:
            thing = dict(objects[rs.randint(len(objects))])
            kind = kinds[rs.randint(len(kinds))]
            thing[kind] = str(rs.choice(values[kind]))
        if not any(all(thing[k] == other[k] for k in kinds) for other in objects):
            objects.append(thing)
    return objects


def _draw_paths(
    rs: np.random.RandomState,
    objects: Sequence[Mapping[str, str]],
    frames: int,
    size: int,
    speed: tuple[float, float],
) -> tuple[list[float], list[np.ndarray], list[np.ndarray]]:
    """Radii, first middles and steps of the objects, in pixels; apart from each other where that can be drawn."""
    radii: list[float] = []
    starts: list[np.ndarray] = []
    steps: list[np.ndarray] = []
    for thing in objects:
        radius = rs.uniform(0.11, 0.17) * size
        step = np.array(MOTIONS.get(thing["motion"], (0, 0)), float) * rs.uniform(*speed) * size
        travel = step * (frames - 1)
        room = radius + 1
        for _ in range(60):
            start = np.array([rs.uniform(room + max(0, -t), size - room - max(0, t)) for t in travel])
            gaps = [
                np.linalg.norm(start + part * travel - other - part * other_step * (frames - 1)) - radius - other_radius
                for other, other_step, other_radius in zip(starts, steps, radii, strict=True)
                for part in (0, 0.5, 1)
            ]
            if all(gap > 0 for gap in gaps):
                break
        radii.append(radius)
        starts.append(start)
        steps.append(step)
    return radii, starts, steps


def _draw_rounds(
    rs: np.random.RandomState, objects: Sequence[Mapping[str, str]], frames: int, size: int, away: int
) -> tuple[list[float], np.ndarray]:
    """Radii of the objects, and their middles (n, T, 2), rows and columns, for :func:`make_film`."""
    radii, places = [], np.empty((len(objects), frames, 2))
    for i, thing in enumerate(objects):
        radius = rs.uniform(0.11, 0.17) * size
        direction = np.array(MOTIONS.get(thing["motion"], (0, 0)))
        step = rs.uniform(0.1, 0.14) * size
        round_trip = size + 2 * radius + away * step
        start = rs.uniform(radius + 1, size - radius - 1, 2)
        far = start + direction * step * np.arange(frames)[:, None]
        places[i] = np.where(direction != 0, (far + radius) % round_trip - radius, far)
        radii.append(radius)
    return radii, places


def _times_covered(radii: Sequence[float], places: np.ndarray) -> int:
    """How often, over frames and pairs, two objects touch."""
    return sum(
        int((np.linalg.norm(places[i] - places[j], axis=1) < radii[i] + radii[j]).sum())
        for i in range(len(radii))
        for j in range(i)
    )


def _draw_background(rs: np.random.RandomState, size: int) -> np.ndarray:
    """(size, size, 3) RGB: a grey with a slope."""
    rows, columns = np.mgrid[:size, :size].astype(np.float32) + 0.5
    background: np.ndarray = (
        110
        + 40 * rs.uniform(-1, 1, (1, 1, 3))
        + 25 * rs.uniform(-1, 1) * (columns / size - 0.5)[..., None]
        + 25 * rs.uniform(-1, 1) * (rows / size - 0.5)[..., None]
    )
    return background


def _paint(
    rs: np.random.RandomState,
    background: np.ndarray,
    objects: Sequence[Mapping[str, str]],
    radii: Sequence[float],
    places: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The pictures (T, H, W, 3) uint8 of objects with middles (n, T, 2), and the masks (n, T, H, W) of what is seen."""
    (size, _, _), (n, frames, _) = background.shape, places.shape
    rows, columns = np.mgrid[:size, :size].astype(np.float32) + 0.5
    video = np.empty((frames, size, size, 3), np.uint8)
    masks = np.zeros((n, frames, size, size), bool)
    for t in range(frames):
        image = background.copy()
        for i, thing in enumerate(objects):  # later ones lie in front
            y, x = places[i, t]
            mask = _inside(thing["shape"], rows - y, columns - x, radii[i])
            image[mask] = np.array(COLOURS[thing["colour"]]) * rs.uniform(0.97, 1.03)
            masks[:i, t] &= ~mask
            masks[i, t] = mask
        video[t] = np.clip(image + rs.normal(0, 8, image.shape), 0, 255)
    return video, masks


def _inside(shape: str, y: np.ndarray, x: np.ndarray, radius: float) -> np.ndarray:
    """(H, W) bool: which points, relative to the middle, are of the shape."""
    inside: np.ndarray
    if shape == "circle":
        inside = y * y + x * x <= radius * radius
    elif shape == "square":
        inside = (np.abs(y) <= 0.85 * radius) & (np.abs(x) <= 0.85 * radius)
    else:  # a triangle, point upwards
        inside = (y <= 0.8 * radius) & (y >= -radius + 1.9 * np.abs(x))
    return inside


def _phrase(rs: np.random.RandomState, which: int, objects: Sequence[Mapping[str, str]], kinds: Sequence[str]) -> str:
    """A description that fits one object alone: in half of the cases one with as few attributes as possible."""
    me = objects[which]
    others = [other for i, other in enumerate(objects) if i != which]
    ways = [(0, 1) if kind in kinds else (0,) for kind in KINDS]
    options = [(c, s, m) for c in ways[0] for s in ways[1] for m in ways[2] if c + s + m]
    good = [
        used
        for used in options
        if not any(all(not u or o[k] == me[k] for u, k in zip(used, KINDS, strict=True)) for o in others)
    ]
    fewest = [used for used in good if sum(used) == min(map(sum, good))]
    pool = fewest if rs.uniform() < 0.5 else good
    colour, shape, motion = pool[rs.randint(len(pool))]
    words = ["the", *([me["colour"]] * colour), me["shape"] if shape else "thing"]
    if motion:
        words += ["standing", "still"] if me["motion"] == "still" else ["moving", me["motion"]]
    return " ".join(words)
