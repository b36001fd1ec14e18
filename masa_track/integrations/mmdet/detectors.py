"""The authors' detectors that share their backbone with MASA, under their names and with their parameters' names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from itertools import accumulate
from typing import Any

from mmdet.models.detectors import GroundingDINO
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from masa_track.detectors.phrases import is_list, read_prompt
from masa_track.errors import InputError, missing_extra
from masa_track.integrations.mmdet.parts import must_be


@MODELS.register_module()
class SamMasa(BaseModule):
    """SAM, whole, as the authors' checkpoints hold it; its ``backbone`` gives the maps that MASA reads.

    Args:
        backbone: the image encoder's ``embed_dim``, ``depth``, ``num_heads`` and ``out_indices``.
        prompt_encoder, mask_decoder: SAM's other halves; None leaves them out.

    Raises:
        InputError: segment-anything is not installed, or the configuration is of another SAM.
    """

    finds_boxes = False

    def __init__(
        self,
        backbone: Mapping[str, Any],
        prompt_encoder: Mapping[str, Any] | None = None,
        mask_decoder: Mapping[str, Any] | None = None,
        init_cfg: Any = None,
        **_: Any,
    ) -> None:
        super().__init__(init_cfg)
        try:
            from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer

            from masa_track.integrations.mmdet.sam_taps import TappedEncoder
        except ImportError as error:
            raise missing_extra("segment-anything", "sam") from error
        usual = {"img_size": 1024, "patch_size": 16, "window_size": 14, "use_rel_pos": True, "qkv_bias": True}
        must_be("SamMasa.backbone", backbone, **usual, out_chans=256)
        taps = list(backbone["out_indices"])
        must_be("SamMasa.backbone", backbone, global_attn_indexes=taps)
        self.backbone = TappedEncoder(backbone["embed_dim"], backbone["depth"], backbone["num_heads"], taps)
        self.prompt_encoder = self.mask_decoder = None
        if prompt_encoder is not None:
            self.prompt_encoder = PromptEncoder(256, (64, 64), (1024, 1024), prompt_encoder.get("mask_in_chans", 16))
        if mask_decoder is not None:
            transformer = TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8)
            self.mask_decoder = MaskDecoder(transformer_dim=256, transformer=transformer)


@MODELS.register_module()
class GroundingDINOMasa(GroundingDINO):
    """mmdet's Grounding DINO. Its backbone is all that MASA needs of it, its boxes are there when a text is."""


@MODELS.register_module()
class DeticMasa(BaseModule):
    """Detic's Swin backbone: what MASA needs of it. Detic itself is not in mmdet, so its boxes come from a file.

    Args:
        backbone: of mmdet.
        **others: Detic's own parts, which are not built; their weights in a checkpoint are passed over.

    Attributes:
        missed: what to say where boxes are expected of it, as its head is in the configuration; empty if it is not.
    """

    finds_boxes = False

    def __init__(self, backbone: Mapping[str, Any], init_cfg: Any = None, **others: Any) -> None:
        super().__init__(init_cfg)
        self.missed = ""
        if others.get("roi_head") is not None:
            self.missed = (
                "Detic's own detections are not computed here, as Detic is not in mmdet: save them once where Detic "
                "runs and give the file by public_det_path, or given_dets=True; without detector.roi_head the boxes "
                "are those of MASA's own head, which have no class"
            )
        self.backbone: nn.Module = MODELS.build(backbone)
        self.register_load_state_dict_pre_hook(_only_backbone)


class DetectorText:
    """The text for a detector that takes one; captions that are too long for it are cut into groups.

    Groups are those of mmdet (``test_cfg.chunked_size`` phrases each): run one by one, with classes numbered over all
    groups and the results in a row.

    Args:
        detector: of mmdet.
        custom_entities: True: each entry between full stops is a class; False: the detector searches the text for noun
            phrases, for which it needs nltk.

    Raises:
        InputError: ``custom_entities=False`` without nltk.
    """

    def __init__(self, detector: Any, custom_entities: bool = True) -> None:
        if not custom_entities and find_spec("nltk") is None:
            raise InputError(
                "custom_entities=False searches noun phrases with nltk: run `pip install nltk`, or leave it out and "
                "separate the classes by full stops"
            )
        self.detector, self.custom_entities = detector, custom_entities
        config = getattr(detector, "test_cfg", None)
        self._config = config if isinstance(config, dict) else {}
        self._configured = int(self._config.get("chunked_size", -1))
        self._known: dict[str, tuple[str | tuple[str, ...], int]] = {}

    def prepare(self, text: str) -> dict[str, Any]:
        """What a data sample must say for this text.

        Args:
            text: phrases separated by full stops, or a list of names, see
                :func:`~masa_track.detectors.phrases.read_prompt`.

        Returns:
            ``text`` and ``custom_entities``; the detector's ``chunked_size`` is set.
        """
        if text not in self._known:
            self._known[text] = self._cut(text)
        given, size = self._known[text]
        if size > 0 or "chunked_size" in self._config:
            self._config["chunked_size"] = size
        return {"text": given, "custom_entities": self.custom_entities}

    def _cut(self, text: str) -> tuple[str | tuple[str, ...], int]:
        given: str | tuple[str, ...] = read_prompt(text).phrases if is_list(text) else text
        if isinstance(given, str) and not self.custom_entities:
            return given, -1
        phrases = given if isinstance(given, tuple) else tuple(part for part in given.strip(". ").split(". ") if part)
        size = self._configured
        language = getattr(self.detector, "language_model", None)
        if size <= 0 and language is not None:
            size = group_size(language.tokenizer, phrases, int(language.max_tokens))
        return (phrases if size > 0 else given), size


def group_size(tokenizer: Any, phrases: Sequence[str], most: int) -> int:
    """The largest number of phrases a group with which no group has more than ``most`` tokens; -1: all fit into one.

    Raises:
        InputError: a phrase is too long.
    """
    lengths = [len(ids) + 1 for ids in tokenizer(list(phrases), add_special_tokens=False)["input_ids"]]  # full stops
    sums = list(accumulate(lengths, initial=2))  # with the caption's first and last token
    if sums[-1] <= most:
        return -1
    for size in range(len(phrases) - 1, 0, -1):
        ends = [min(start + size, len(phrases)) for start in range(0, len(phrases), size)]
        if all(
            sums[end] - sums[start] + 2 <= most for start, end in zip(range(0, len(phrases), size), ends, strict=True)
        ):
            return size
    longest = max(zip(lengths, phrases, strict=True))[1]
    raise InputError(f"a phrase of text must have at most {most - 3} tokens, got {longest[:60]!r}...")


def fix_text_encoder(detector: nn.Module) -> None:
    """Lets a text detector of mmdet 3, made for transformers 4, run with transformers 5, where there is one.

    There tokenizers have no ``batch_encode_plus``, and a mask by pairs of tokens needs a dimension for the heads. And
    in onedl-mmdetection 3.5.1 the decoder encodes places with twice the numbers that Grounding DINO's head takes.
    """
    language = getattr(detector, "language_model", None)
    if language is None:
        return
    if not hasattr(language.tokenizer, "batch_encode_plus"):
        language.tokenizer.batch_encode_plus = language.tokenizer.__call__
        language.language_backbone.body.model.register_forward_pre_hook(_mask_with_heads, with_kwargs=True)
    head = getattr(getattr(detector, "decoder", None), "ref_point_head", None)
    if head is not None:
        head.register_forward_pre_hook(half_the_frequencies)


def fix_ref_point_head(detector: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Gives DINO's head of places the width of its published weights, which onedl-mmdetection 3.5.1 has doubled."""
    weight = state.get("decoder.ref_point_head.layers.0.weight")
    head = getattr(getattr(detector, "decoder", None), "ref_point_head", None)
    if weight is None or head is None or head.layers[0].in_features != 2 * weight.shape[1]:
        return
    head.layers[0] = nn.Linear(weight.shape[1], weight.shape[0])
    head.register_forward_pre_hook(half_the_frequencies)


def half_the_frequencies(module: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor | None:
    """Every second frequency of an encoding of twice the width, which is the encoding that the head was trained on."""
    encoding, first = inputs[0], module.get_submodule("layers.0")
    assert isinstance(first, nn.Linear)
    if encoding.shape[-1] != 2 * first.in_features:
        return None
    pairs = encoding.unflatten(-1, (4, -1, 2, 2))  # coordinate, frequency, even or odd, sine and cosine
    return pairs[..., 0, :].flatten(-3)


def _mask_with_heads(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    mask = named.get("attention_mask")
    if mask is not None and mask.dim() == 3:
        named = {**named, "attention_mask": mask[:, None].bool()}  # (B, 1, S, S), True: may look
    return inputs, named


def _only_backbone(module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: Any) -> None:
    for key in [key for key in state_dict if key.startswith(prefix) and not key.startswith(f"{prefix}backbone.")]:
        del state_dict[key]
