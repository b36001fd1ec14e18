"""How strongly the two views of a photograph are changed."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

from masa_track.errors import InputError, unknown_name

Range = tuple[float, float]
PROBABILITIES = ("flip_both", "flip_one", "blur", "noise", "jpeg", "mixup", "paste", "occlude", "min_visible")


@dataclass(frozen=True)
class ViewSettings:
    """All that a pair of views depends on beside the photograph, the size and the seed.

    Geometry, drawn for each view:

    Attributes:
        zoom: size of the photograph, as a multiple of the largest that fits into the view.
        rotation: degrees, at most, either way.
        shear: degrees, at most, either way.
        stretch: ratio of width to height, changed by at most this factor, either way; at least 1.
        perspective: how far the photograph's corners move, at most, in parts of its sides; 0 keeps it affine.
        drift: how far the second view's crop lies from the first's, at most, in parts of the way; 1 is anywhere.
        flip_both: probability that both views are flipped.
        flip_one: probability that the second is flipped against the first.
        hue: shift in degrees, at most, either way.
        saturation: factor changed by at most this part, either way.
        brightness: the same, for the value of HSV.
        blur: probability.
        blur_sigma: pixels.
        noise: probability.
        noise_sigma: grey levels of 255.
        jpeg: probability that the view is compressed.
        jpeg_quality: of 100.
        mixup: probability that another photograph shines through, in both views.
        mixup_weight: that of the other photograph.
        paste: probability that regions of another photograph are pasted, the same ones in both views.
        paste_count: at most so many.
        paste_size: square root of a pasted region's area, in parts of the view's.
        occlude: probability that objects are put in front of a view's regions.
        occlude_count: at most so many.
        occlude_share: how much of a region's box each covers.
        min_area: an instance with fewer visible pixels drops out.
        min_visible: so does one of which a smaller part is visible.
    """

    zoom: Range = (1.0, 1.0)
    rotation: float = 0.0
    shear: float = 0.0
    stretch: float = 1.0
    perspective: float = 0.0
    drift: float = 0.0
    flip_both: float = 0.0
    flip_one: float = 0.0
    hue: float = 0.0
    saturation: float = 0.0
    brightness: float = 0.0
    blur: float = 0.0
    blur_sigma: Range = (0.5, 1.5)
    noise: float = 0.0
    noise_sigma: Range = (2.0, 8.0)
    jpeg: float = 0.0
    jpeg_quality: Range = (40, 95)
    mixup: float = 0.0
    mixup_weight: Range = (0.3, 0.5)
    paste: float = 0.0
    paste_count: int = 4
    paste_size: Range = (0.08, 0.3)
    occlude: float = 0.0
    occlude_count: int = 3
    occlude_share: Range = (0.15, 0.5)
    min_area: float = 64.0
    min_visible: float = 0.3

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            numbers = value if isinstance(value, tuple) else (value,)
            if not all(isinstance(v, int | float) and math.isfinite(v) and v >= 0 for v in numbers):
                raise InputError(f"{field.name} must be numbers of at least 0, got {value!r}")
            if field.name in PROBABILITIES and value > 1:
                raise InputError(f"{field.name} must be 0 to 1, got {value!r}")
            if isinstance(value, tuple) and not (len(value) == 2 and value[0] <= value[1]):
                raise InputError(f"{field.name} must be (least, most), got {value!r}")
        if self.zoom[0] <= 0:
            raise InputError(f"zoom must be above 0, got {self.zoom!r}")
        if self.stretch < 1:
            raise InputError(f"stretch must be at least 1, got {self.stretch!r}")
        if self.perspective > 0.3:  # beyond, corners can cross
            raise InputError(f"perspective must be at most 0.3, got {self.perspective!r}")
        if self.jpeg_quality[1] > 100 or self.jpeg_quality[0] < 1:
            raise InputError(f"jpeg_quality must be 1 to 100, got {self.jpeg_quality!r}")


PRESETS = {
    # MASA, CVPR 2024, section 3.2: random affine, MixUp, large-scale jitter, flip, colour jitter, as in YOLOX
    # (rotation 10, shear 2, hue 5 of 180, saturation and value 30 of 255). Perspective, paste and occlusion are ours.
    "strong": ViewSettings(
        zoom=(0.1, 2.0),
        rotation=10.0,
        shear=2.0,
        stretch=1.25,
        perspective=0.05,
        drift=1.0,
        flip_both=0.5,
        flip_one=0.5,
        hue=10.0,
        saturation=0.3,
        brightness=0.3,
        blur=0.2,
        noise=0.1,
        jpeg=0.3,
        mixup=0.5,
        paste=0.5,
        occlude=0.3,
    ),
    # What a second of video does to an object. Strong colours taught a small head categories instead of instances, and
    # an object's mirror image is hardly ever seen.
    "mild": ViewSettings(
        zoom=(0.6, 1.6),
        rotation=5.0,
        shear=2.0,
        stretch=1.15,
        perspective=0.03,
        drift=0.4,
        flip_both=0.5,
        flip_one=0.05,
        hue=3.0,
        saturation=0.1,
        brightness=0.12,
        blur=0.3,
        noise=0.2,
        jpeg=0.5,
        mixup=0.0,
        paste=0.3,
        occlude=0.3,
    ),
}


def view_settings(name: str | ViewSettings, **changes: Any) -> ViewSettings:
    """A preset, or the settings given, with some of its fields changed.

    Args:
        name: ``strong``, ``mild``, or settings.
        changes: fields of :class:`ViewSettings` and their values; lists are taken for tuples.

    Raises:
        InputError: there is no such preset or field, or a value is out of its range.
    """
    if isinstance(name, str):
        if name not in PRESETS:
            raise unknown_name("settings", name, PRESETS)
        name = PRESETS[name]
    known = [field.name for field in fields(ViewSettings)]
    for key in changes:
        if key not in known:
            raise unknown_name("view setting", key, known)
    values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in changes.items()}
    return replace(name, **values)
