"""SAM 3 on parts of transformers: instances of a phrase or of exemplars in a picture, and the propagator of masks.

The vision encoder runs once for each picture, whatever the number of phrases and of objects. The video loop of
transformers is not used.

Source: Carion et al., SAM 3: Segment Anything with Concepts, 2025.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from masa_track.contracts import ConceptFrame, Features, MaskPropagator
from masa_track.encoders.preprocessing import check_frame
from masa_track.errors import InputError
from masa_track.masklets.sam2 import weights_key
from masa_track.masklets.sam3_propagation import Sam3Maps, Sam3PropagationNetwork
from masa_track.models.devices import mixed_precision

MAX_TOKENS = 32  # of a phrase, with one at its beginning and one at its end
VISUAL = "visual"  # the phrase where there are exemplars alone
_NORM_EPSILON = 1e-5  # of the vision encoder; transformers has 1e-6
_DTYPES = {None: torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_PHRASES = 2048  # whose tokens are kept


class Sam3Network:
    """SAM 3, or SAM 3 with a smaller text encoder: a :class:`~masa_track.contracts.ConceptModel`.

    Args:
        detector: transformers' ``Sam3Model`` or ``Sam3LiteTextModel``, in float32 and ``eval()``, on its device.
        tokenizer: of its text encoder.
        name: for messages and :attr:`key`.
        propagation: ``Sam3VideoModel.tracker_model`` and ``.tracker_neck``; None: for pictures alone.
        precision: ``bf16`` or ``fp16`` (on a GPU) for most that is computed; None: float32.
        truncate: cut phrases that are too long, in place of an error.

    Attributes:
        side: pixels of the square that pictures are scaled to.
    """

    def __init__(
        self,
        detector: Any,
        tokenizer: Any,
        name: str,
        propagation: tuple[Any, nn.Module] | None = None,
        precision: str | None = None,
        truncate: bool = False,
    ) -> None:
        mixed_precision(next(detector.parameters()).device, precision)
        self.detector, self.tokenizer, self.name = detector, tokenizer, name
        self.precision, self.truncate = precision, truncate
        self.side = int(detector.config.vision_config.image_size)
        for module in detector.vision_encoder.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = _NORM_EPSILON
        self._phrase = functools.lru_cache(_PHRASES)(self._encode_phrase)
        self._propagation = None
        if propagation is not None:
            self._propagation = Sam3PropagationNetwork(*propagation, owner=self, dtype=_DTYPES[precision])

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return next(self.detector.parameters()).device

    @cached_property
    def key(self) -> str:
        """Names the model, its weights and its dtype: ``sam3@3f2c9a01b7de/float32``."""
        state = dict(self.detector.state_dict())
        if self._propagation is not None:
            state |= {f"tracker.{name}": tensor for name, tensor in self._propagation.model.state_dict().items()}
            state |= {f"neck.{name}": tensor for name, tensor in self._propagation.neck.state_dict().items()}
        return weights_key(self.name, self.side, state, _DTYPES[self.precision])

    # ---- pictures

    def prepare(self, image: np.ndarray) -> Tensor:
        """A (H, W, 3) BGR uint8 picture as (1, 3, S, S): scaled (its shape is not kept), then to -1..1."""
        picture = torch.from_numpy(np.ascontiguousarray(image[..., ::-1])).to(self.device).permute(2, 0, 1)[None]
        scaled = F.interpolate(picture.float(), (self.side, self.side), mode="bilinear", antialias=True)
        return scaled.round().clamp(0, 255) / 127.5 - 1

    @torch.no_grad()
    def vision(self, pixels: Tensor) -> Any:
        """The vision encoder on a (1, 3, S, S) picture of :meth:`prepare`."""
        with self._mixed():
            return self.detector.get_vision_features(pixel_values=pixels.to(self.device))

    @torch.no_grad()
    def encode(self, images: Sequence[np.ndarray]) -> list[Features]:
        """Runs the vision encoder once for each (H, W, 3) BGR uint8 picture, for detections and propagation.

        Raises:
            InputError: for a picture of another form.
        """
        for image in images:
            check_frame(image)
        found = []
        for image in images:
            data = self.vision(self.prepare(image))
            if self._propagation is not None:
                with self._mixed():
                    data = self._propagation.maps(data)
            found.append(Features(self.key, (image.shape[1], image.shape[0]), data))
        return found

    # ---- prompts

    def check_phrase(self, phrase: str) -> None:
        """Checks a phrase before any work.

        Raises:
            InputError: it is empty, or longer than the model takes.
        """
        self._tokens(phrase)

    def _tokens(self, phrase: str) -> list[int]:
        """The tokens of a phrase, with one at each end."""
        if not phrase.strip():
            raise InputError(f'a phrase must name something, e.g. "a yellow minion", got {phrase!r}')
        tokens = [int(token) for token in self.tokenizer(phrase, truncation=False)["input_ids"]]
        if len(tokens) <= MAX_TOKENS:
            return tokens
        if not self.truncate:
            raise InputError(
                f"a phrase must have at most {MAX_TOKENS - 2} tokens, got {len(tokens) - 2}: {phrase[:60]!r}...; make "
                "it shorter, or cut it with truncate=True (--truncate)"
            )
        return [*tokens[: MAX_TOKENS - 1], tokens[-1]]

    @torch.no_grad()
    def _encode_phrase(self, phrase: str) -> Tensor:
        """(1, T, C) tokens of a phrase."""
        ids = torch.tensor([self._tokens(phrase)], device=self.device)
        with self._mixed():
            found = self.detector.get_text_features(
                input_ids=ids, attention_mask=torch.ones_like(ids), return_dict=True
            )
        return found.pooler_output

    @torch.no_grad()
    def encode_exemplars(
        self, features: Features, boxes: np.ndarray, positive: np.ndarray | None = None
    ) -> tuple[Tensor, Tensor]:
        """Exemplars of one picture, to be used in others. The weights are not trained for that.

        Args:
            features: of the picture that the boxes are in.
            boxes: (n, 4) xyxy pixels, n >= 1.
            positive: (n,) bool, whether each shows an instance; None: all do.

        Returns:
            (1, n + 1, C) tokens, and (1, n + 1) bool.

        Raises:
            InputError: a box has no area inside of the picture, or the features are another model's.
        """
        given, labels = self._exemplars(features, boxes, positive)
        return self._geometry(self._vision_of(features), given, labels, torch.ones_like(labels, dtype=torch.bool))

    def exemplars_to_arrays(self, exemplars: tuple[Tensor, Tensor]) -> dict[str, np.ndarray]:
        """What :meth:`encode_exemplars` gave, as arrays by name."""
        tokens, mask = exemplars
        return {"tokens": tokens.float().cpu().numpy(), "mask": mask.cpu().numpy()}

    def exemplars_of_arrays(self, arrays: Mapping[str, np.ndarray]) -> tuple[Tensor, Tensor]:
        """The inverse of :meth:`exemplars_to_arrays`; raises LookupError, TypeError or ValueError where it fails."""
        tokens, mask = np.array(arrays["tokens"], np.float32), np.array(arrays["mask"], bool)
        if tokens.ndim != 3 or tokens.shape[:2] != mask.shape:
            raise ValueError(f"tokens of exemplars have shapes {tokens.shape} and {mask.shape}")
        return torch.from_numpy(tokens).to(self.device), torch.from_numpy(mask).to(self.device)

    def _geometry(self, vision: Any, boxes: Tensor, labels: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """The geometry encoder, in float32: pooling of boxes knows no bfloat16.

        Args:
            vision: output of the vision encoder.
            boxes: (1, n, 4) centre, width and height of 0..1.
            labels: (1, n) 1 or 0.
            counts: (1, n) bool; False for padding.

        Returns:
            (1, n + 1, C) tokens, those of the boxes and CLS, and (1, n + 1) bool.
        """
        with torch.autocast(self.device.type, enabled=False):
            found = self.detector.geometry_encoder(
                box_embeddings=boxes,
                box_mask=counts,
                box_labels=labels,
                img_feats=[level.float() for level in vision.fpn_hidden_states[:-1]],
                img_pos_embeds=[level.float() for level in vision.fpn_position_encoding[:-1]],
            )
        return found.last_hidden_state, found.attention_mask.bool()

    def _exemplars(self, features: Features, boxes: np.ndarray, positive: np.ndarray | None) -> tuple[Tensor, Tensor]:
        """(1, n, 4) centre, width and height of 0..1, and (1, n) 1 or 0."""
        given = np.asarray(boxes, np.float32)
        if given.ndim != 2 or given.shape[1] != 4 or not len(given):
            raise InputError(f"boxes of exemplars must be (n, 4) xyxy pixels, n >= 1, got shape {given.shape}")
        shown = np.ones(len(given), bool) if positive is None else np.asarray(positive, bool)
        if shown.shape != (len(given),):
            raise InputError(f"positive must have a value for each of the {len(given)} boxes, got shape {shown.shape}")
        size = np.array([*features.size, *features.size], np.float32)
        inside = given.clip(0, size)
        if not np.isfinite(given).all() or not (inside[:, 2:] > inside[:, :2]).all():
            raise InputError(
                f"boxes of exemplars must have an area inside of the picture of {size[0]:g} x {size[1]:g} pixels, got "
                f"{given.tolist()}"
            )
        places = np.concatenate([(inside[:, :2] + inside[:, 2:]) / 2, inside[:, 2:] - inside[:, :2]], 1) / size
        device = self.device
        return torch.from_numpy(places).to(device)[None], torch.from_numpy(shown.astype(np.int64)).to(device)[None]

    def _vision_of(self, features: Features) -> Any:
        features.check(self.key)
        return features.data.vision if isinstance(features.data, Sam3Maps) else features.data

    # ---- instances

    @torch.no_grad()
    def detect(
        self,
        features: Features,
        phrase: str | None,
        boxes: np.ndarray | None = None,
        positive: np.ndarray | None = None,
        carried: Sequence[Any] = (),
        least_score: float = 0.5,
        semantic: bool = False,
    ) -> ConceptFrame:
        """The instances in one picture.

        Args:
            features: of the picture.
            phrase: None: exemplars alone.
            boxes: (n, 4) xyxy pixels, exemplars in this picture.
            positive: (n,) bool, whether each of ``boxes`` shows an instance; None: all do.
            carried: exemplars of other pictures, of :meth:`encode_exemplars`.
            least_score: scores must be above.
            semantic: whether to make the semantic map.

        Raises:
            InputError: nothing is looked for, the phrase is too long, a box has no area inside of the picture, or the
                features are another model's.
        """
        vision = self._vision_of(features)
        with_boxes = boxes is not None and len(boxes) > 0
        if phrase is None and not with_boxes and not carried:
            raise InputError("detect needs a phrase or exemplars, got neither")
        if with_boxes:
            given, labels = self._exemplars(features, np.asarray(boxes), positive)
        else:  # padding: CLS of the geometry encoder is part of every prompt, and transformers leaves it out
            given = torch.zeros(1, 1, 4, device=self.device)
            labels = torch.zeros(1, 1, dtype=torch.int64, device=self.device)
        own = self._geometry(vision, given, labels, torch.full_like(labels, with_boxes, dtype=torch.bool))
        text = self._phrase(VISUAL if phrase is None else phrase)
        parts = [(text, torch.ones(text.shape[:2], dtype=torch.bool, device=self.device)), *carried, own]
        tokens, mask = torch.cat([t.float() for t, _ in parts], 1), torch.cat([m for _, m in parts], 1)
        with self._mixed():
            found = self.detector(vision_embeds=vision, text_embeds=_Text(tokens), attention_mask=mask.long())
        presence = float(found.presence_logits.float().sigmoid())
        local = found.pred_logits[0].float().sigmoid()
        scores = local * presence
        rows = torch.nonzero(scores > least_score)[:, 0]
        size = torch.tensor([*features.size, *features.size], dtype=torch.float32, device=self.device)
        return ConceptFrame(
            boxes=(found.pred_boxes[0, rows].float().clamp(0, 1) * size).cpu().numpy(),
            scores=scores[rows].cpu().numpy(),
            local_scores=local[rows].cpu().numpy(),
            logits=found.pred_masks[0, rows].float().cpu().numpy(),
            presence=presence,
            semantic=found.semantic_seg[0, 0].float().cpu().numpy() if semantic else None,
        )

    def propagator(self) -> MaskPropagator:
        """A propagator without objects. It works on features of :meth:`encode` and gives logits.

        Raises:
            InputError: the model was loaded for pictures alone.
        """
        if self._propagation is None:
            raise InputError(f"{self.name} has no propagator: it finds instances in pictures, but tracks none")
        return self._propagation.session()

    def _mixed(self) -> torch.autocast:
        return mixed_precision(self.device, self.precision)


class _Text:
    """Tokens of a prompt, as ``Sam3Model`` takes them."""

    def __init__(self, tokens: Tensor) -> None:
        self.pooler_output = tokens
