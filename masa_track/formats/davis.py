"""Masks as pictures of object numbers, and the folders of DAVIS, MOSE, YouTube-VOS and SA-V that hold them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from masa_track.errors import InputError, unknown_name
from masa_track.files import write_bytes

VOID = 255  # pixels that are not annotated
LAYOUTS = ("davis", "mose", "sav", "ytvos")
_IMAGES = {"sav": "JPEGImages_24fps"}
_MASKS = {"sav": "Annotations_6fps"}
_COLOURS = 22  # of DAVIS' palette; the other numbers are shades of grey


def palette() -> bytes:
    """DAVIS' palette: red, green and blue of the 256 numbers."""
    colours = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    for number in range(_COLOURS):
        for channel in range(3):  # bits 0 and 3 are red, 1 and 4 green, 2 and 5 blue
            high, low = (number >> channel) & 1, (number >> (channel + 3)) & 1
            colours[number, channel] = (0, 64, 128, 191)[2 * high + low]
    return colours.tobytes()


def read_index_picture(path: str | Path) -> np.ndarray:
    """(H, W) uint8 object numbers, 0 for the background, of a PNG with a palette or in grey.

    A grey picture of 0 and 255 alone, as DAVIS 2016 has, is a mask of object 1.

    Raises:
        InputError: it cannot be read, or has colours or 16 bits.
    """
    try:
        with Image.open(path) as picture:
            mode = picture.mode
            numbers = np.array(picture)
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be read as a picture of masks: {error}") from error
    if mode not in ("P", "L", "1"):
        raise InputError(
            f"{path} must be a PNG with a palette or 8-bit grey, whose values are object numbers, got mode {mode}"
        )
    numbers = numbers.astype(np.uint8)
    if mode == "L" and np.isin(numbers, (0, VOID)).all():
        numbers = (numbers > 0).astype(np.uint8)
    return numbers


def index_picture(masks: Mapping[int, np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """(H, W) uint8 object numbers of masks that do not overlap.

    Args:
        masks: (H, W) bool by object number.
        size: (width, height).

    Raises:
        InputError: an object number is not 1 to 254.
    """
    numbers = np.zeros(size[::-1], np.uint8)
    for identity, mask in masks.items():
        if not 1 <= identity < VOID:
            raise InputError(f"an object in a picture of masks must have a number from 1 to 254, got {identity}")
        numbers[mask] = identity
    return numbers


def write_index_picture(path: str | Path, numbers: np.ndarray) -> None:
    """Writes (H, W) uint8 object numbers as a PNG with DAVIS' palette.

    Raises:
        OSError: the file cannot be written.
    """
    picture = Image.fromarray(np.ascontiguousarray(numbers, np.uint8))
    picture.putpalette(palette())
    out = io.BytesIO()
    picture.save(out, "PNG")
    write_bytes(path, out.getvalue())


class MaskFolder:
    """The masks of one sequence: ``NAME.png`` with object numbers; or, as in SA-V, ``OBJECT/NAME.png``, a mask each.

    Attributes:
        path: of the folder.
        per_object: whether there is a folder for each object.
        names: of the frames that have a picture, in their order, without ``.png``.

    Raises:
        InputError: there is no picture, or the folder of an object is not called by its number.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._folders: dict[int, Path] = {}
        if not self.path.is_dir():
            raise InputError(f"{path} is not a folder of masks: check the path")
        names = {file.stem for file in self.path.glob("*.png")}
        if not names:
            for folder in sorted(self.path.iterdir()):
                if folder.is_dir() and (own := {file.stem for file in folder.glob("*.png")}):
                    if not folder.name.isdecimal():
                        raise InputError(f"{folder} must have the number of an object as its name, as in SA-V")
                    self._folders[int(folder.name)] = folder
                    names |= own
        if not names:
            raise InputError(f"{path} holds no masks: NAME.png, or OBJECT/NAME.png, are looked for")
        self.per_object = bool(self._folders)
        self.names = sorted(names)

    @property
    def objects(self) -> list[int]:
        """The objects: of index pictures 1 to the largest number in the first one, as DAVIS counts them."""
        if self.per_object:
            return sorted(self._folders)
        numbers = self.numbers(self.names[0])
        return list(range(1, 1 + int(numbers[numbers != VOID].max(initial=0))))

    def folder_name(self, identity: int) -> str:
        """The name of an object's folder, where ``per_object``."""
        return self._folders[identity].name

    def names_of(self, identity: int) -> list[str]:
        """The frames in which an object is annotated, if only as not visible."""
        if not self.per_object:
            return self.names
        return sorted(file.stem for file in self._folders[identity].glob("*.png")) if identity in self._folders else []

    def numbers(self, name: str) -> np.ndarray:
        """(H, W) uint8 object numbers of a frame, where not ``per_object``.

        Raises:
            InputError: the picture is not there or cannot be read.
        """
        return read_index_picture(self.path / f"{name}.png")

    def masks(self, name: str) -> dict[int, np.ndarray]:
        """(H, W) bool by object, of the objects annotated in a frame; void pixels are background.

        Raises:
            InputError: a picture cannot be read.
        """
        if not self.per_object:
            numbers = self.numbers(name)
            return {int(i): numbers == i for i in np.unique(numbers) if 0 < i < VOID}
        files = {identity: folder / f"{name}.png" for identity, folder in self._folders.items()}
        return {identity: read_index_picture(file) > 0 for identity, file in files.items() if file.is_file()}


@dataclass(frozen=True)
class VosSequence:
    """A sequence of a data set: its name, the folder of its pictures and that of its masks."""

    name: str
    images: Path
    masks: Path


def find_sequences(root: str | Path, layout: str, names: Sequence[str] = ()) -> list[VosSequence]:
    """The sequences of a data set.

    Args:
        root: its folder. ``davis``: JPEGImages/480p/NAME and Annotations/480p/NAME, or another single resolution;
            ``mose``, ``ytvos``: JPEGImages/NAME and Annotations/NAME; ``sav``: JPEGImages_24fps/NAME and
            Annotations_6fps/NAME/OBJECT.
        layout: one of these.
        names: of the sequences that are wanted; empty: all that have masks.

    Raises:
        InputError: a folder or a sequence is not there.
    """
    if layout not in LAYOUTS:
        raise unknown_name("--layout", layout, LAYOUTS)
    root = Path(root)
    images, masks = root / _IMAGES.get(layout, "JPEGImages"), root / _MASKS.get(layout, "Annotations")
    for folder in (images, masks):
        if not folder.is_dir():
            raise InputError(f"ROOT {root} has no folder {folder.name}, which --layout {layout} needs: check both")
    if layout == "davis":
        masks = _resolution(masks)
        images = images / masks.name if (images / masks.name).is_dir() else images
    known = sorted(folder.name for folder in masks.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    for name in names:
        if name not in known:
            raise unknown_name("sequence", name, known)
    if not known:
        raise InputError(f"ROOT {root}: {masks} holds no folder of a sequence; check --layout {layout}")
    found = [VosSequence(name, images / name, masks / name) for name in names or known]
    for sequence in found:
        if not sequence.images.is_dir():
            raise InputError(f"ROOT {root} has masks of {sequence.name} but no pictures: there is no {sequence.images}")
    return found


def _resolution(folder: Path) -> Path:
    """Of DAVIS' folders by resolution, 480p or the only one; the folder itself where it holds sequences."""
    inside = [one for one in sorted(folder.iterdir()) if one.is_dir() and not one.name.startswith(".")]
    nested = [one for one in inside if not any(one.glob("*.png")) and any(one.glob("*/*.png"))]
    if (folder / "480p").is_dir():
        return folder / "480p"
    if len(nested) > 1:
        raise InputError(f"{folder} holds {', '.join(one.name for one in nested)}: keep one of them, or 480p")
    return nested[0] if nested else folder
