"""The interfaces between the parts of the package: values that are passed on, and what their users may expect.

Numpy only. Boxes are xyxy pixels, times are seconds, log-odds are in nats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from masa_track.errors import InputError

if TYPE_CHECKING:
    import supervision as sv

NO_RUNNER_UP = -2  # `Decision.runner_up` where the row could have had no other identity
NEW_IDENTITY = -1  # `Decision.runner_up` where the row could have started a track instead
MUST_BE_NEW = -2  # `Observation.pins` of a row that must start a track


@dataclass(frozen=True)
class Frame:
    """One picture of a source.

    Attributes:
        number: from 1.
        time: seconds since any fixed moment.
        size: (width, height) in pixels.
        name: of the picture, e.g. ``000001.jpg``.
        image: (H, W, 3) uint8 BGR; None in a replay.
    """

    number: int
    time: float
    size: tuple[int, int]
    name: str = ""
    image: np.ndarray | None = None

    @property
    def picture(self) -> np.ndarray:
        """``image``, where there must be one.

        Raises:
            InputError: the frame is one of a replay, which has none.
        """
        if self.image is None:
            raise InputError(f"frame {self.number} has no picture, it is of a replay: read it from the source")
        return self.image


@dataclass
class Observation:
    """All that is known of a frame before identities. It can be stored, sent and replayed.

    Attributes:
        number: of the frame, from 1; for the authors' trackers, which count frames.
        time: seconds; later than the observation before.
        size: (width, height) of the picture in pixels; None where it is not known.
        boxes: (N, 4) float32 xyxy pixels.
        scores: (N,) float32 detection scores, 0..1.
        labels: (N,) int64 classes.
        embeddings: (N, D) float32; rows that were not embedded are NaN. None where there are none.
        masks: N masks; never dense (N, H, W).
        detector_ran: False where only masklets were observed; then a track that is not seen is not missing.
        may_start: (N,) bool, rows that may start or confirm a track; None: all. False for rows that only a masklet
            observed.
        hints: (row, identity, log-odds) that are added to the pair's sum.
        mask_overlaps: (row, identity, IoU, confidence): the IoU of the row's mask with the one that is expected of the
            track, and the probability that this one is right. The preset ``default`` makes log-odds of them.
        pins: (N,) int64: -1 free, -2 must start a track, 0 or more must be this identity, even one that was forgotten.
        forbidden: (row, identity) pairs that must not be.
        groups: (N,) int64; a row only takes tracks of its group. None: one group.
        groups_in_view: tracks of other groups are out of view, not missing. None: all are in view.
        camera: (2, 3) affine, pixels of the last frame to pixels of this one. None: the camera stands.
        scene_change: how much the background differs from that of the frame before, 0..2, by
            :func:`~masa_track.video.scene_change.scene_change`. None: not known.
    """

    number: int
    time: float
    size: tuple[int, int] | None
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    embeddings: np.ndarray | None = None
    masks: Any = None
    detector_ran: bool = True
    may_start: np.ndarray | None = None
    hints: Sequence[tuple[int, int, float]] = ()
    mask_overlaps: Sequence[tuple[int, int, float, float]] = ()
    pins: np.ndarray | None = None
    forbidden: Sequence[tuple[int, int]] = ()
    groups: np.ndarray | None = None
    groups_in_view: frozenset[int] | None = None
    camera: np.ndarray | None = None
    scene_change: float | None = None


@dataclass(frozen=True)
class Decision:
    """Why a row has its identity.

    Attributes:
        row: of the observation.
        identity: -1 for none; also that of a tentative track where it has a number already.
        tentative: the track is not confirmed.
        log_odds: sum of the terms, nats. The authors' trackers give the similarity, 0..1, instead.
        terms: its parts by name: motion, appearance, absence, hint, mask.
        runner_up: the best other choice of this row: an identity, -1 for a new track, -2 for none.
        margin: nats by which this choice is better than the runner-up, the other rows' choices being kept.
    """

    row: int
    identity: int
    tentative: bool
    log_odds: float
    terms: Mapping[str, float]
    runner_up: int
    margin: float


MOST_TENTATIVE = 300  # frames; a tentative track is detected in each frame, and mostly confirmed after two to five


@dataclass(frozen=True)
class TrackEvent:
    """What happened to a track.

    Attributes:
        kind: ``born`` (it got its identity), ``lost`` (not seen in this frame, but in the one before), ``found`` (seen
            again), ``ended`` (forgotten), ``cut`` (of the video; identity -1), ``merged``, ``split`` (by correction).
        identity: of the track.
        number: of the frame.
        time: seconds.
        other: the other identity of a merge or a split; else -1.
        earlier: of a ``born`` track, (frame number, row) of the detections that it took before, while it was tentative,
            oldest first; of the last :data:`MOST_TENTATIVE` frames.
    """

    kind: Literal["born", "lost", "found", "ended", "cut", "merged", "split"]
    identity: int
    number: int
    time: float
    other: int = -1
    earlier: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class CountEvent:
    """A track crossed a counting line, or entered or left a zone.

    Attributes:
        kind: ``crossed_in`` (to the left of the direction from the line's first point to its second), ``crossed_out``,
            ``entered``, ``left``.
        name: of the line or the zone.
        identity: of the track.
        class_id: of the track in that frame.
        number: of the frame. For ``left``: the last one in which the track was in the zone.
        time: of that frame, seconds.
        seconds: of ``left``: how long the track was in the zone; else 0.
    """

    kind: Literal["crossed_in", "crossed_out", "entered", "left"]
    name: str
    identity: int
    class_id: int
    number: int
    time: float
    seconds: float = 0.0


@dataclass(frozen=True)
class TrackView:
    """The tracks in memory, a row per track, valid until the next update.

    Attributes:
        ids: (M,) int64; -1 for tentative tracks.
        boxes: (M, 4) float32 xyxy pixels: the last box, or where motion expects the track now.
        last_seen: (M,) float64 seconds.
        labels: (M,) int64 classes.
        groups: (M,) int64.
        confirmed: (M,) bool.
        lost: (M,) bool, not seen in the last frame.
    """

    ids: np.ndarray
    boxes: np.ndarray
    last_seen: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    confirmed: np.ndarray
    lost: np.ndarray


@dataclass
class FrameResult:
    """One frame with identities.

    Attributes:
        frame: the frame.
        detections: same rows in the same order, with ``tracker_id`` (N,) int64.
        events: what happened to tracks.
        decisions: one for each row.
        extras: what else is known, by name.
        observation: what was known before identities, for the record of the run; None where it is not kept.
    """

    frame: Frame
    detections: sv.Detections
    events: list[TrackEvent] = field(default_factory=list)
    decisions: Sequence[Decision] = ()
    extras: Mapping[str, Any] = field(default_factory=dict)
    observation: Observation | None = None


class Associator(Protocol):
    """Gives the rows of each frame their identities."""

    @property
    def needs(self) -> frozenset[str]:
        """Which of ``motion``, ``embeddings`` and ``masks`` it uses."""
        ...

    def wanted(self, observation: Observation) -> np.ndarray:
        """(N,) bool, rows whose embedding can change the outcome. Changes nothing; no embeddings are needed for it."""
        ...

    def update(self, observation: Observation) -> tuple[np.ndarray, list[Decision], list[TrackEvent]]:
        """Identities (N,) int64 (-1 for none), a decision for each row, and what happened. All or nothing.

        Raises:
            InputError: for an observation that does not fit, or whose time is not later than the last one's.
        """
        ...

    def view(self) -> TrackView:
        """The tracks in memory."""
        ...

    def rename(self, old: int, new: int) -> None:
        """Track ``old`` has identity ``new`` from now on.

        Raises:
            InputError: there is no track ``old``, or ``new`` is another track in memory.
        """
        ...

    def reset(self) -> None:
        """Forgets everything, for another video."""
        ...

    def state_dict(self) -> dict[str, np.ndarray]:
        """The state as arrays of numbers and text, which need no unpickling."""
        ...

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes over a state of the same class with the same options.

        Raises:
            InputError: for a state of another class or of other options; the state is as it was then.
        """
        ...


class Embeds(Protocol):
    """The least that the tracker needs of a model."""

    def embed(self, frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """(N, D) float32 embeddings of (N, 4) xyxy boxes of a (H, W, 3) BGR uint8 frame."""
        ...


@dataclass(frozen=True)
class Features:
    """What a model's backbone made of one picture; everything that works on the picture shares it.

    Attributes:
        key: the model, its weights' checksum and dtype, :attr:`Embedder.key`. Other models refuse the features.
        size: (width, height) of the picture in pixels.
        data: the model's own: feature maps, scale factors.
    """

    key: str
    size: tuple[int, int]
    data: Any = field(repr=False)

    def check(self, key: str, image: np.ndarray | None = None) -> None:
        """Checks whose features these are.

        Args:
            key: of the model that shall work on them.
            image: (H, W, 3) picture that they shall be of; None where it is not known. Its size is compared only.

        Raises:
            InputError: the features are of another model, other weights, another dtype or a picture of another size.
        """
        if self.key != key:
            raise InputError(f"features are of the model {self.key}, not of {key}: encode the picture with that model")
        if image is not None and image.shape[1::-1] != self.size:
            raise InputError(
                f"features are of a picture of {self.size[0]} x {self.size[1]} pixels (model {self.key}), but the "
                f"picture has {image.shape[1]} x {image.shape[0]}: encode each picture, and pass its own features"
            )


class Embedder(Embeds, Protocol):
    """A model that embeds boxes; see :class:`masa_track.encoders.embedder.Embedder`.

    Attributes:
        dimension: D, the numbers in an embedding.
        key: name, first 12 hexadecimal digits of a checksum over the weights, and dtype:
            ``nano@3f2c9a01b7de/float32``.
    """

    prior: Any  # an association.AppearancePrior: the cosines to expect; None where they are not known

    @property
    def dimension(self) -> int:
        """D, the numbers in an embedding."""
        ...

    @property
    def key(self) -> str:
        """Names the model, its weights and its dtype."""
        ...

    def encode(self, images: Sequence[np.ndarray]) -> list[Features]:
        """Runs the backbone once for each (H, W, 3) BGR uint8 picture."""
        ...

    def embed_features(self, features: Features, boxes: np.ndarray) -> np.ndarray:
        """(N, D) float32 embeddings of (N, 4) xyxy boxes, pixels of the picture.

        Raises:
            InputError: the features are of another model, other weights or another dtype.
        """
        ...


class Detector(Protocol):
    """Finds boxes.

    Attributes:
        class_names: names by class id.
        track_activation_threshold: the score from which its boxes start tracks in ``masa-track track``. Detectors
            differ in what their scores mean.
        stateful: it uses earlier frames (background subtraction): it needs a video's frames in order.
        warm_up: frames after which what came before them hardly matters; 0 for a detector without state. A new
            detector that is given a video's last ``warm_up`` frames goes on as the one that saw them all.
        features_key: :attr:`Embedder.key` of the model on whose features it works; None: on pictures alone.
    """

    track_activation_threshold: float
    stateful: bool
    warm_up: int

    @property
    def class_names(self) -> Mapping[int, str]:
        """Names by class id."""
        ...

    @property
    def features_key(self) -> str | None:
        """Whose features it takes."""
        ...

    def detect(self, images: Sequence[np.ndarray], features: Sequence[Features] | None = None) -> list[sv.Detections]:
        """The boxes of pictures.

        Args:
            images: F pictures (H, W, 3) BGR uint8.
            features: of the same pictures, by the model of ``features_key``; None: the detector encodes the pictures
                itself. Detectors without a ``features_key`` leave them aside.

        Returns:
            F times N detections: boxes (N, 4) xyxy pixels of the picture, scores (N,) in 0..1, classes (N,).

        Raises:
            InputError: a picture of another form, or features of another model or of other pictures.
        """
        ...

    def reset(self) -> None:
        """Forgets earlier frames, for another video."""
        ...


class IdentitySource(Protocol):
    """Gives the frames of a source identities: :class:`masa_track.MasaTracker`, or a model that segments by a phrase.

    One with ``state_dict`` and ``load_state_dict`` can go on with a run that was stopped. Where results come late, the
    frames after the last result are given to :meth:`step` again then, for their pictures; they are not tracked again.

    Attributes:
        look_ahead: frames by which results come late; 0: each comes with its frame.
    """

    look_ahead: int

    def step(
        self, frame: Frame, detections: sv.Detections | None = None, *, features: Features | None = None
    ) -> list[FrameResult]:
        """Takes a frame; gives the results that are finished now, in the order of frames.

        Raises:
            InputError: for a frame or detections that cannot be used; the frame leaves no trace.
        """
        ...

    def finish(self) -> list[FrameResult]:
        """The results that are still due at the end of the source."""
        ...

    def reset(self) -> None:
        """Forgets everything, for another video."""
        ...


class ResultStage(Protocol):
    """Adds to results what is computed after identities: masks, parts, phrases.

    Attributes:
        look_ahead: frames by which results come late.
    """

    look_ahead: int

    def step(self, result: FrameResult) -> list[FrameResult]:
        """Takes a result; gives those that are finished now, in the order of frames.

        Raises:
            InputError: for a frame that cannot be used.
        """
        ...

    def finish(self) -> list[FrameResult]:
        """The results that are still due at the end of the source."""
        ...


class ReferrerSession(Protocol):
    """Scores tracks for some sentences while a video is read."""

    def add(self, frames: Sequence[Frame], tracks: Sequence[sv.Detections]) -> None:
        """Adds the scores of the tracks in a window.

        Args:
            frames: T frames with their pictures.
            tracks: of each frame, with ``tracker_id``.
        """
        ...

    def scores(self) -> Mapping[int, np.ndarray]:
        """(S,) scores in 0..1 by identity, one for each sentence."""
        ...

    def answer(self, sentence: int) -> tuple[int | None, float]:
        """The identity that a sentence means, None below the threshold; and its score less that of the second."""
        ...


class Referrer(Protocol):
    """A model that says which track a sentence means.

    Attributes:
        window: frames that it takes at once.
        stride_seconds: between two of these frames.
    """

    window: int
    stride_seconds: float

    def open(self, sentences: Sequence[str]) -> ReferrerSession:
        """A session for these sentences, which are given to the model unchanged.

        Raises:
            InputError: a sentence cannot be used.
        """
        ...


@dataclass(frozen=True)
class Prompt:
    """What shows an object in one frame. A mask stands alone; a box and points may come together.

    Attributes:
        points: (P, 2) x, y in pixels; scribbles are sampled into points.
        positive: (P,) bool, whether each point is on the object; None: all are.
        box: (4,) xyxy pixels around the object.
        mask: (H, W) bool, or an RLE; all False: the object is not visible in this frame.
        clear: the prompts given before for this object and frame, and its proposed mask, do not count any more.
    """

    points: np.ndarray | None = None
    positive: np.ndarray | None = None
    box: np.ndarray | None = None
    mask: Any = None
    clear: bool = False


@dataclass(frozen=True)
class MaskletFrame:
    """The masks of objects in one frame.

    Attributes:
        ids: (K,) int64 identities, ascending; one identity K times where K candidates were asked for, the best first.
        masks: K masks as supervision's ``CompactMask``; they do not overlap, candidates excepted.
        object_logits: (K,) float32 log-odds that the object is visible; its mask is empty where they are below 0.
        predicted_iou: (K,) float32, 0..1, the IoU with the true mask that is expected.
        logits: (K, h, w) float32 mask logits at the resolution of the network, above 0 on the object, before objects
            compete for pixels. None: the propagator has none.
    """

    ids: np.ndarray
    masks: Any
    object_logits: np.ndarray
    predicted_iou: np.ndarray
    logits: np.ndarray | None = None

    @property
    def confidence(self) -> np.ndarray:
        """(K,) float64 probability that a mask shows its object: sigmoid(object logit) x predicted IoU."""
        logits = np.clip(np.asarray(self.object_logits, np.float64), -30, 30)
        return np.asarray(self.predicted_iou / (1 + np.exp(-logits)))


class MaskPropagator(Protocol):
    """Carries masks from frame to frame: a proposal for a frame, prompts on it, then one commit, which it remembers."""

    def propose(self, frame: Frame, features: Features | None = None) -> MaskletFrame:
        """The masks of all objects in a frame. The memory does not change; an earlier uncommitted frame is dropped.

        Args:
            frame: with its picture. Frames may be given backwards, or with another picture size than before.
            features: of the same picture, where the propagator works on a shared backbone.

        Raises:
            InputError: the frame has no picture, or one that cannot be used.
        """
        ...

    def prompt(self, identity: int, prompt: Prompt, candidates: bool = False) -> MaskletFrame:
        """Starts an object in the proposed frame, or corrects its mask there.

        Args:
            identity: 0 or more; an object that is not known is started.
            prompt: in pixels of the proposed frame.
            candidates: return all candidate masks of an ambiguous prompt; the first one is taken in any case.

        Raises:
            InputError: no frame is proposed, or the prompt cannot be used; nothing has changed then.
        """
        ...

    def commit(self, masks: Mapping[int, Any] | None = None) -> None:
        """Writes the proposed frame to the memory.

        Args:
            masks: by identity, (H, W) bool or RLE, instead of the proposed ones, e.g. after they were cleaned. A
                propagator that gives :attr:`MaskletFrame.logits` also takes (h, w) float32 logits of any resolution.
                Objects that were prompted in this frame keep the prompted mask where they are left out.

        Raises:
            InputError: no frame is proposed, or a mask cannot be used; the memory is as it was then.
        """
        ...

    def forget(self, identity: int) -> None:
        """Removes an object.

        Raises:
            InputError: there is no such object.
        """
        ...

    def memory_bytes(self) -> int:
        """Bytes of the memory of all objects."""
        ...

    def most_bytes_per_object(self) -> int:
        """The most bytes that one object takes in this memory, for a video of any length; 0 without objects."""
        ...

    def free_bytes(self) -> int | None:
        """Free bytes where this memory lies: of the computer, or of the GPU; None where that is not known."""
        ...

    def reset(self) -> None:
        """Forgets everything, for another video."""
        ...

    def state_dict(self) -> dict[str, np.ndarray]:
        """The memory as arrays of numbers and text, which need no unpickling. A proposed frame is not part of it."""
        ...

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes over the memory of a propagator of the same class with the same options; a proposed frame is dropped.

        Raises:
            InputError: the state does not fit; the memory is as it was then.
        """
        ...


@dataclass(frozen=True)
class Exemplar:
    """A box that shows what is looked for, or what is not.

    Attributes:
        box: (4,) xyxy pixels of its picture.
        positive: False: what is in the box is not an instance of the phrase.
        frame: number of the frame that the box is in; it counts from that frame on. Not used where there is an
            ``image``.
        phrase: whose instances it shows; None: those of the first phrase.
        image: (H, W, 3) BGR uint8, another picture than one of the video; it counts from the next frame on.
    """

    box: np.ndarray | Sequence[float]
    positive: bool = True
    frame: int = 1
    phrase: str | None = None
    image: np.ndarray | None = None


@dataclass(frozen=True)
class ConceptFrame:
    """The instances of one phrase in one picture, before suppression, the order is the model's.

    Attributes:
        boxes: (N, 4) float32 xyxy pixels of the picture.
        scores: (N,) float32, presence x local score.
        local_scores: (N,) float32, 0..1: the score of each instance if the phrase is in the picture.
        logits: (N, h, w) float32 mask logits at the resolution of the network, that of ``MaskletFrame.logits``.
        presence: probability that the phrase is in the picture at all.
        semantic: (h, w) float32 logits of all pixels of the phrase; None where it was not asked for.
    """

    boxes: np.ndarray
    scores: np.ndarray
    local_scores: np.ndarray
    logits: np.ndarray
    presence: float
    semantic: np.ndarray | None = None


class ConceptModel(Protocol):
    """Finds the instances of a phrase or of exemplars, and carries their masks."""

    @property
    def key(self) -> str:
        """Names the model, its weights and its dtype, as :attr:`Embedder.key`."""
        ...

    def check_phrase(self, phrase: str) -> None:
        """Checks a phrase before any work.

        Raises:
            InputError: it is empty, or longer than the model takes.
        """
        ...

    def encode(self, images: Sequence[np.ndarray]) -> list[Features]:
        """Runs the vision encoder once for each (H, W, 3) BGR uint8 picture, for detections and propagation."""
        ...

    def encode_exemplars(self, features: Features, boxes: np.ndarray, positive: np.ndarray) -> Any:
        """Exemplars of one picture, to be used in others.

        Args:
            features: of the picture that the boxes are in.
            boxes: (n, 4) xyxy pixels, n >= 1.
            positive: (n,) bool.
        """
        ...

    def exemplars_to_arrays(self, exemplars: Any) -> dict[str, np.ndarray]:
        """What :meth:`encode_exemplars` gave, as arrays by name."""
        ...

    def exemplars_of_arrays(self, arrays: Mapping[str, np.ndarray]) -> Any:
        """The inverse of :meth:`exemplars_to_arrays`; raises LookupError, TypeError or ValueError where it fails."""
        ...

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
        """
        ...

    def propagator(self) -> MaskPropagator:
        """A propagator without objects. It works on features of :meth:`encode` and gives logits."""
        ...
