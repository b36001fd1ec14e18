"""The published models for masklets, as data: names, files, licences. Needs neither torch nor transformers."""

from __future__ import annotations

from dataclasses import dataclass

from masa_track.registry import HubFile

SIZES = ("tiny", "small", "base-plus", "large")
_EDGETAM = "yonigozlan/EdgeTAM-hf"


@dataclass(frozen=True)
class MaskletModel:
    """A published model.

    Attributes:
        name: for ``--masklets``.
        files: that it needs; the first one holds the weights. A folder in Hugging Face's form has two.
        licence: of the weights, by its SPDX name.
    """

    name: str
    files: tuple[HubFile, ...]
    licence: str = "Apache-2.0"


def _official(version: str, size: str) -> MaskletModel:
    name = f"sam{version}-hiera-{size}"
    return MaskletModel(name, (HubFile(f"facebook/{name}", f"{name.replace('-', '_')}.pt"),))


MODELS = {
    model.name: model
    for model in (
        *(_official(version, size) for version in ("2.1", "2") for size in SIZES),
        MaskletModel("edgetam", (HubFile(_EDGETAM, "model.safetensors"), HubFile(_EDGETAM, "config.json"))),
    )
}


def find_model(name: str) -> MaskletModel | None:
    """The model of that name, or of that repository on Hugging Face; None if there is none."""
    repositories = {model.files[0].repository: model for model in MODELS.values()}
    return MODELS.get(name) or repositories.get(name)
