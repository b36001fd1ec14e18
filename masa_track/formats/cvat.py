"""Tracks as "CVAT for video 1.1", to be reviewed and corrected in CVAT.

A ``track`` has a ``box`` for each tracked frame, a keyframe; CVAT draws the frames between by itself. Where a track
is not seen, a box that is ``outside`` ends it. A box that fills a gap is no keyframe: it is on the line that CVAT draws
by itself. Frames count from 0. Masks are not in this format's tracks.

Source: https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/ and .../xml_format/, CVAT 2.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np

from masa_track.formats.run import Run


def cvat_xml(run: Run) -> str:
    """The run as the text of an ``annotations.xml``.

    The task needs labels of the same names; a track gets the class that it had most often. Track ids become CVAT's own
    numbers on import; here they are ours.
    """
    root = ET.Element("annotations")
    ET.SubElement(root, "version").text = "1.1"
    size = int(run.frames[-1])
    task = ET.SubElement(ET.SubElement(root, "meta"), "task")
    facts = {"name": run.name, "size": size, "mode": "interpolation", "overlap": 0, "flipped": False}
    for key, value in {**facts, "start_frame": 0, "stop_frame": size - 1}.items():
        ET.SubElement(task, key).text = str(value)
    labels = ET.SubElement(task, "labels")
    used = {number for _, number, _ in run.tracks()}
    for name in dict.fromkeys(run.class_name(number) for number in sorted(used | set(run.class_names))):
        label = ET.SubElement(labels, "label")
        ET.SubElement(label, "name").text = name
        ET.SubElement(label, "attributes")
    original = ET.SubElement(task, "original_size")
    ET.SubElement(original, "width").text = str(run.width)
    ET.SubElement(original, "height").text = str(run.height)

    for track_id, number, places in run.tracks():
        track = ET.SubElement(root, "track", id=str(track_id), label=run.class_name(number), source="auto")
        for spell in run.spells(places):
            for place in spell:
                on_line = bool(run.filled[place] and not run.smoothed[place])
                _add_box(track, int(run.frames[run.rows[place]]), run.boxes[place], keyframe=not on_line)
            after = int(run.rows[spell[-1]]) + 1
            if after < len(run.frames):  # else the track lasts as long as the run
                _add_box(track, int(run.frames[after]), run.boxes[spell[-1]], outside=True)
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _add_box(track: ET.Element, frame: int, box: np.ndarray, outside: bool = False, keyframe: bool = True) -> None:
    sides = dict(zip(("xtl", "ytl", "xbr", "ybr"), (f"{value:.2f}" for value in box), strict=True))
    state = {"outside": str(int(outside)), "occluded": "0", "keyframe": str(int(keyframe)), "z_order": "0"}
    ET.SubElement(track, "box", {"frame": str(frame - 1), **state, **sides})
