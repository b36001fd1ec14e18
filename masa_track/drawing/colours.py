"""Colours of identities, the same in the video and in the report, and of classes."""

from __future__ import annotations

# Twelve hues in an order that keeps neighbouring ids apart, at a lightness that can be read on video,
# on a white page and on a dark one.
TRACK_COLORS = (
    "#4c8dff",  # blue
    "#ff7a45",  # orange
    "#2fb67c",  # green
    "#e0559b",  # pink
    "#e0a800",  # amber
    "#9b6bff",  # violet
    "#18b5c4",  # cyan
    "#e5484d",  # red
    "#7bb32e",  # lime
    "#c07a3e",  # brown
    "#5e6ad2",  # indigo
    "#cf6be0",  # orchid
)


COLOR_BY = ("identity", "class")  # what has a colour of its own


def track_color(track_id: int) -> str:
    """The colour of a track as ``#rrggbb``; ids that differ by a multiple of 12 share one."""
    return TRACK_COLORS[track_id % len(TRACK_COLORS)]
