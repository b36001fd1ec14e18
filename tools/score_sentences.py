"""Scores `masa-track refer` on sentences about tracks with known answers.

    python tools/score_sentences.py SENTENCES.json CLIPS [--out predictions.json] [--json scores.json]

SENTENCES is a list of {clip, sentence, answer} with an optional index, kind and needs; the tracks are the truth of
CLIPS/clip. The grammar answers without a model and without pictures. Prints the share of right answers with its 95 %
interval (Wilson), those that are none and those that need appearance apart. `--out` writes {index: id or null}.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path

from masa_track.refer.answers import answer
from masa_track.refer.geometry import Scene
from masa_track.refer.sources import read_scene


def interval(right: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share, by Wilson."""
    z = 1.96
    share = right / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    reach = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return middle - reach, middle + reach


def group_of(sentence: dict[str, object]) -> str:
    """What a sentence asks of the grammar."""
    if sentence["answer"] is None:
        return "none is right"
    return "an id, with appearance" if "appearance" in str(sentence.get("needs", "")) else "an id, by geometry or class"


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sentences", type=Path)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    sentences = json.loads(args.sentences.read_text(encoding="utf-8"))
    scenes: dict[str, Scene] = {}
    groups: dict[str, list[bool]] = {}
    predictions = {}
    for place, sentence in enumerate(sentences):
        clip = sentence["clip"]
        if clip not in scenes:
            scenes[clip] = read_scene(args.clips / clip)
        found = answer(scenes[clip], sentence["sentence"])
        right = found.answer == sentence["answer"]
        groups.setdefault(group_of(sentence), []).append(right)
        predictions[str(sentence.get("index", place))] = found.answer
        if not right:
            print(
                f"{sentence['sentence']!r}: {found.answer} instead of {sentence['answer']} ({found.used}; {found.note})"
            )
    table = {}
    for name, values in sorted(groups.items()):
        low, high = interval(sum(values), len(values))
        table[name] = {
            "right": sum(values),
            "of": len(values),
            "share": sum(values) / len(values),
            "interval": [low, high],
        }
        print(
            f"{name:28} {sum(values):3d} of {len(values):<3d} {sum(values) / len(values):6.1%}  [{low:.1%}, {high:.1%}]"
        )
    if args.out is not None:
        args.out.write_text(json.dumps(predictions, indent=2) + "\n", encoding="utf-8")
    if args.json is not None:
        args.json.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
