"""What is known of each model, as data: other modules ask a model's :class:`ModelSpec` and never compare its name.

Needs neither torch nor the networks, which are imported when :func:`build_model` builds one. :func:`register_model`
adds a model of yours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from masa_track.errors import InputError, missing_extra, unknown_name

# What extras of setup.py bring along: the modules to look for.
_TORCH = ("torch", "torchvision", "timm", "safetensors")
EXTRAS = {
    "torch": _TORCH,
    "onnx": (*_TORCH, "onnx"),
    "eval": ("motmetrics", "trackeval"),
    "hub": (*_TORCH, "huggingface_hub"),
    "sam": (*_TORCH, "segment_anything", "pycocotools"),
    "gdino": (*_TORCH, "transformers"),
    "transformers": (*_TORCH, "transformers"),
    "masklets": (*_TORCH, "transformers", "huggingface_hub", "pycocotools"),
    "refer": (*_TORCH, "transformers", "huggingface_hub", "pycocotools"),  # h5py where A2D-Sentences is read
    "sam3": (*_TORCH, "transformers", "huggingface_hub", "pycocotools"),
}
OWN, GROUNDING_DINO = "own", "grounding-dino"  # detectors that can work on a model's backbone
SAM3 = "sam3"  # a detector that can also track


def sam3_place(name: str | None) -> str | None:
    """Folder or repository of SAM 3 by ``sam3:PLACE``, empty for ``sam3``; None for other names and None."""
    library, _, place = (name or "").partition(":")
    return place if library == SAM3 else None


IDENTITIES = ("masa", "sam3", "both")  # whose identities a run with it has
ONNX = ".onnx"
WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ONNX)
_BUILDER = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes a network's input: scaled, its aspect ratio kept; normalised; padded with zeros.

    Attributes:
        mean, std: RGB, in 0..255.
        long_side: pixels that the longer side is scaled to.
        short_side: pixels that the shorter side may have at most; None for any.
        size_divisor: the padded sides are multiples of it, pixels.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    long_side: int
    short_side: int | None = None
    size_divisor: int = 32

    @classmethod
    def of(cls, network: Any) -> Preprocessing:
        """The five as a network has them; without a ``short_side`` it may be any."""
        short_side = getattr(network, "short_side", None)
        return cls(network.mean, network.std, network.long_side, short_side, network.size_divisor)

    def set_on(self, network: Any) -> None:
        """Sets the five as attributes of a network, where its users read them."""
        for name, value in vars(self).items():
            setattr(network, name, value)


@dataclass(frozen=True)
class HubFile:
    """A file of weights in a Hugging Face repository.

    Attributes:
        repository: ``OWNER/NAME``.
        file: its name there.
    """

    repository: str
    file: str

    def local(self) -> Path | None:
        """The file if it is in the Hugging Face cache; no network is used."""
        if find_spec("huggingface_hub") is None:
            return None
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.repository, self.file)
        return Path(found) if isinstance(found, str) else None


@dataclass(frozen=True)
class PartOf:
    """Says that a model's tensors are also found among those of another model's file.

    Attributes:
        model: name of the other model.
        prefix: of the tensors' names there.
        own_prefix: what stands in its place in the model itself.
    """

    model: str
    prefix: str
    own_prefix: str


POOLS = ("box", "mask")  # what an embedding is made of: all that is in a box, or what is under a mask


@dataclass(frozen=True)
class ModelSpec:
    """What is known of one model.

    Attributes:
        name: for :func:`masa_track.load` and ``--model``.
        builder: ``module:function`` that returns the network with random weights; imported when it is called. The
            network has ``backbone_maps(images)``, ``adapt(maps)``, ``pyramid(images)`` (the two in a row),
            ``embed(levels, boxes)`` and ``dimension``, as :class:`~masa_track.models.nano.Nano` has them.
        summary: one line for ``masa-track models``.
        weights: a file, a file on Hugging Face, or None where the caller gives a ``checkpoint``.
        sha256: of the file of weights, in hexadecimal; None where it is not known. It is checked when they are loaded.
        onnx: the same network for ONNX Runtime, by ``masa-track convert --to onnx``; None: it runs with torch only.
        onnx_sha256: of that file; None where it is not known.
        size: bytes of the file of weights; of the authors' files, of their tensors in float32. None: not known.
        licence: of the weights, by its SPDX name.
        source: whose they are, and the paper.
        needs: the extra that the network needs, one of :data:`EXTRAS`; None for no extra.
        preprocessing: set on the network that is built; None where the builder's network has these attributes itself.
        dimension: D, the numbers in an embedding; None: not known.
        prior: the json file of the :class:`~masa_track.association.AppearancePrior` of the weights; None: not known.
        fold: fold batch norms into the convolutions before them when the model is loaded. Right only if the network's
            children run in the order in which they are listed.
        detectors: what finds boxes on the same backbone: :data:`OWN` (the network's ``detect``),
            :data:`GROUNDING_DINO` (text prompts).
        signature: tensors (key, shape) by which the authors' ``.pth`` is told from others. The network renames the
            keys of such a file in ``load_official_state_dict``. Empty for a model without such files.
        pool: ``mask`` where embeddings of what is under a detection's mask were measured to keep identities better than
            those of its box; else ``box``.
        part_of: another model's file that holds the tensors as well.
        old_names: names that the model had before; they still work.

    Raises:
        InputError: for a name, builder, extra, detector, pool or checksum of another form.
    """

    name: str
    builder: str
    summary: str = ""
    weights: Path | HubFile | None = None
    sha256: str | None = None
    onnx: Path | None = None
    onnx_sha256: str | None = None
    size: int | None = None
    licence: str = "not stated"
    source: str = ""
    needs: str | None = None
    preprocessing: Preprocessing | None = None
    dimension: int | None = None
    prior: Path | None = None
    fold: bool = False
    detectors: tuple[str, ...] = ()
    signature: tuple[tuple[str, tuple[int, ...]], ...] = ()
    pool: str = "box"
    part_of: PartOf | None = None
    old_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (self.name, *self.old_names):
            if not re.fullmatch(r"[\w.+-]+", name) or Path(name).suffix in WEIGHT_SUFFIXES:
                raise InputError(f"name must be letters, digits and . + - _ and not that of a file, got {name!r}")
        if not _BUILDER.fullmatch(self.builder):
            raise InputError(f"builder of {self.name!r} must be 'module:function', got {self.builder!r}")
        if self.needs is not None and self.needs not in EXTRAS:
            raise unknown_name(f"extra in needs of {self.name!r}", self.needs, EXTRAS)
        for detector in self.detectors:
            if detector not in (OWN, GROUNDING_DINO):
                raise unknown_name(f"detector in detectors of {self.name!r}", detector, (OWN, GROUNDING_DINO))
        if self.pool not in POOLS:
            raise InputError(f"pool of {self.name!r} must be one of {', '.join(POOLS)}, got {self.pool!r}")
        for field in ("sha256", "onnx_sha256"):
            digits = getattr(self, field)
            if digits is not None and not re.fullmatch("[0-9a-f]{64}", digits):
                raise InputError(f"{field} of {self.name!r} must be 64 hexadecimal digits, got {digits!r}")

    @property
    def is_shipped(self) -> bool:
        """Whether the weights are a file that is already here."""
        return isinstance(self.weights, Path)

    def local_weights(self) -> Path | None:
        """The file of weights if it is on this machine, shipped or in the Hugging Face cache; no network is used."""
        if isinstance(self.weights, HubFile):
            return self.weights.local()
        return self.weights if self.weights is not None and self.weights.is_file() else None


_MODELS: dict[str, ModelSpec] = {}


def register_model(spec: ModelSpec, replace: bool = False) -> None:
    """Adds a model, so that :func:`masa_track.load`, ``MasaTracker(model=NAME)`` and training know its name.

    It is known in this process only: call it where your program starts.

    Args:
        spec: the model.
        replace: take the place of a model of the same name. Registering an equal spec again is always allowed.

    Raises:
        InputError: the name, or an old name, is another model's.

    Example:
        >>> register_model(ModelSpec("mine", builder="my_package.net:Net"))  # doctest: +SKIP
        >>> model = masa_track.load("mine", checkpoint="net.safetensors")  # doctest: +SKIP
    """
    taken = {old: other.name for other in _MODELS.values() for old in (other.name, *other.old_names)}
    for name in (spec.name, *spec.old_names):
        owner = taken.get(name)
        same = owner == spec.name and (replace or _MODELS[owner] == spec)
        if owner is not None and not same:
            raise InputError(
                f"name {name!r} is already that of the model {owner!r}: choose another, or register with replace=True "
                "if it is the same model"
            )
    _MODELS[spec.name] = spec


def list_models() -> list[ModelSpec]:
    """All known models, in the order in which they were registered."""
    return list(_MODELS.values())


def find_model(name: str) -> ModelSpec | None:
    """The model of that name or old name, None if there is none."""
    if name in _MODELS:
        return _MODELS[name]
    return next((spec for spec in _MODELS.values() if name in spec.old_names), None)


def spec_of(name: str) -> ModelSpec:
    """The model of that name or old name.

    Raises:
        InputError: there is none; the message has the nearest name.
    """
    spec = find_model(name)
    if spec is None:
        raise unknown_name("model", name, _MODELS)
    return spec


def models_with(detector: str) -> list[str]:
    """Names of the models whose backbone a detector shares, :data:`OWN` or :data:`GROUNDING_DINO`."""
    return [spec.name for spec in _MODELS.values() if detector in spec.detectors]


def resolve(builder: str) -> Callable[..., Any]:
    """Imports what ``module:function`` names.

    Raises:
        InputError: there is no such module or function.
    """
    module, _, function = builder.partition(":")
    try:
        imported = import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module is there, and something that it imports is not
        raise InputError(f"builder {builder!r} cannot be imported: there is no module {error.name!r}") from error
    found: Callable[..., Any] | None = getattr(imported, function, None)
    if found is None:
        raise InputError(f"builder {builder!r} cannot be imported: {module} has no {function!r}")
    return found


def build_model(name: str, **options: Any) -> Any:
    """The network of a model with random weights.

    Args:
        name: of a registered model.
        **options: of its builder, e.g. ``fusion=False`` for ``nano``.

    Returns:
        A ``torch.nn.Module``, with the model's preprocessing as attributes.

    Raises:
        InputError: for an unknown name, options that the builder does not take, or a library that is not installed.
    """
    spec = spec_of(name)
    builder = resolve(spec.builder)
    try:
        network = builder(**options)
    except TypeError as error:
        raise InputError(f"model {spec.name!r} cannot be built with {sorted(options)}: {error}") from error
    if spec.preprocessing is not None:
        spec.preprocessing.set_on(network)
    return network


def is_installed(extra: str) -> bool:
    """Whether the libraries of an extra can be imported; they are not."""
    return all(find_spec(module) is not None for module in EXTRAS[extra])


def check_installed(*extras: str, purpose: str = "here") -> None:
    """Raises InputError, which names one command for all, if a library of extras cannot be imported; none is imported.

    Args:
        *extras: of :data:`EXTRAS`.
        purpose: what they are needed for, e.g. ``for training``.
    """
    lacking = [extra for extra in extras if not is_installed(extra)]
    if lacking:
        module = next(module for module in EXTRAS[lacking[0]] if find_spec(module) is None)
        raise missing_extra(module.replace("_", "-"), ",".join(lacking), purpose)


def told_by(shapes: Mapping[str, tuple[int, ...]]) -> ModelSpec | None:
    """The model whose signature a state dict has, by the shapes of its tensors; None if there is none."""
    for spec in _MODELS.values():
        if spec.signature and all(shapes.get(key) == shape for key, shape in spec.signature):
            return spec
    return None


_WEIGHTS = Path(__file__).parent / "models" / "weights"
_HALF = (127.5, 127.5, 127.5)
_AUTHORS_REPOSITORY = "dereksiyuanli/masa"
_MASA = "Li et al., Matching Anything by Segmenting Anything, CVPR 2024"
# Tensors of the authors' files that identify their models.
ADAPTER_KEY = "masa_adapter.0.lateral_convs.0.conv.weight"
RESNET_KEY = "backbone.layer4.0.conv1.weight"
VIT_KEY = "detector.backbone.patch_embed.proj.weight"
SWIN_KEY = "detector.backbone.stages.0.blocks.0.attn.w_msa.relative_position_bias_table"


def _imagenet(long_side: int, short_side: int | None, size_divisor: int) -> Preprocessing:
    """Normalised by ImageNet's mean and standard deviation."""
    return Preprocessing((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), long_side, short_side, size_divisor)


AUTHORS_PREPROCESSING = _imagenet(1024, 1024, 32)  # of the authors' models where nothing else is said
_SAM_PREPROCESSING = _imagenet(1024, 1024, 1024)

for _spec in (
    ModelSpec(
        "nano",
        "masa_track.models.nano:Nano",
        "small model that the package ships; the default",
        weights=_WEIGHTS / "nano.safetensors",
        sha256="155469e8643f444a027c82020c3ad7492321735add88ba050ebfcb8dccd944f1",
        onnx=_WEIGHTS / "nano.onnx",
        onnx_sha256="80d3299b4f886d3fc571091aeca301ab8006136b27ef045671eaa37588b525dd",
        size=8_557_340,
        licence="Apache-2.0",
        source="masa-track, on EfficientNet-Lite0 (Apache-2.0); see masa_track/models/weights/nano.md",
        preprocessing=Preprocessing(_HALF, _HALF, 800, size_divisor=64),  # 800 and 1,024: equal on the dev clips
        dimension=2096,
        prior=_WEIGHTS / "nano.prior.json",
        fold=True,
        pool="mask",
        detectors=(OWN,),
    ),
    ModelSpec(
        "nano-untrained",
        "masa_track.models.nano_untrained:UntrainedNano",
        "backbone of nano without training: a baseline, finds no boxes",
        weights=_WEIGHTS / "nano.safetensors",
        sha256="155469e8643f444a027c82020c3ad7492321735add88ba050ebfcb8dccd944f1",
        size=8_557_340,
        licence="Apache-2.0",
        source="EfficientNet-Lite0, ImageNet weights, tf_efficientnet_lite0.in1k of timm",
        preprocessing=Preprocessing(_HALF, _HALF, 800),
        dimension=3776,
        fold=True,
        part_of=PartOf("nano", "backbone.features.", "backbone."),
    ),
    ModelSpec(
        "r50",
        "masa_track.models.official:r50",
        "authors' MASA on a ResNet-50",
        weights=HubFile(_AUTHORS_REPOSITORY, "masa_r50.pth"),
        size=256_257_320,
        licence="Apache-2.0",
        source=_MASA,
        preprocessing=AUTHORS_PREPROCESSING,
        dimension=256,
        detectors=(OWN,),
        signature=((ADAPTER_KEY, (256, 256, 1, 1)), (RESNET_KEY, (512, 1024, 1, 1))),
    ),
    ModelSpec(
        "gdino-swinb",
        "masa_track.models.official:gdino_swinb",
        "authors' MASA on the Swin-B of Grounding DINO; text prompts with --text",
        weights=HubFile(_AUTHORS_REPOSITORY, "gdino_masa.pth"),
        size=1_088_632_480,
        licence="Apache-2.0",
        source=_MASA,
        # The size of its configs for new videos; its benchmark configs fit it into 1024 x 1024 and pad to that.
        preprocessing=_imagenet(1333, 800, 32),
        dimension=256,
        detectors=(OWN, GROUNDING_DINO),
        signature=((ADAPTER_KEY, (256, 256, 1, 1)), (SWIN_KEY, (23**2, 4))),  # (2 * window - 1) ** 2
    ),
    ModelSpec(
        "detic-swinb",
        "masa_track.models.official:detic_swinb",
        "authors' MASA on the Swin-B of Detic",
        weights=HubFile(_AUTHORS_REPOSITORY, "detic_masa.pth"),
        size=726_231_120,
        licence="Apache-2.0",
        source=_MASA,
        preprocessing=AUTHORS_PREPROCESSING,
        dimension=256,
        detectors=(OWN,),
        signature=((ADAPTER_KEY, (256, 256, 1, 1)), (SWIN_KEY, (13**2, 4))),
    ),
    ModelSpec(
        "sam-vitb",
        "masa_track.models.official:sam_vitb",
        "authors' MASA on the ViT-B of SAM",
        weights=HubFile(_AUTHORS_REPOSITORY, "sam_vitb_masa.pth"),
        size=558_721_380,
        licence="Apache-2.0",
        source=_MASA,
        needs="sam",
        preprocessing=_SAM_PREPROCESSING,
        dimension=256,
        detectors=(OWN,),
        signature=((ADAPTER_KEY, (256, 768, 1, 1)), (VIT_KEY, (768, 3, 16, 16))),
    ),
    ModelSpec(
        "sam-vith",
        "masa_track.models.official:sam_vith",
        "authors' MASA on the ViT-H of SAM",
        weights=HubFile(_AUTHORS_REPOSITORY, "sam_vith_masa.pth"),
        size=2_800_580_964,
        licence="Apache-2.0",
        source=_MASA,
        needs="sam",
        preprocessing=_SAM_PREPROCESSING,
        dimension=256,
        detectors=(OWN,),
        signature=((ADAPTER_KEY, (256, 1280, 1, 1)), (VIT_KEY, (1280, 3, 16, 16))),
    ),
):
    register_model(_spec)
del _spec
