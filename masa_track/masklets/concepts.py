"""Tracks all instances of phrases or exemplars: SAM 3's decisions, bounded, with identities that last."""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import supervision as sv

from masa_track.boxes import coverage
from masa_track.contracts import (
    ConceptFrame,
    ConceptModel,
    Embeds,
    Exemplar,
    Features,
    Frame,
    FrameResult,
    MaskletFrame,
    Prompt,
    TrackEvent,
)
from masa_track.errors import InputError
from masa_track.masklets import concept_state as states
from masa_track.masklets.concept_exemplars import (
    Exemplars,
    check_contradictions,
    checked_exemplar,
    inside,
    split_phrases,
)
from masa_track.masklets.concept_identities import IdentityOptions, InstanceMemory, Newborn
from masa_track.masklets.concept_logic import ConceptLogic, Instances, Plan
from masa_track.masklets.concept_options import ConceptOptions
from masa_track.masklets.concept_output import Shown, Waiting, detections_of, shown_in, visible
from masa_track.masklets.mask_logits import prompt_mask
from masa_track.tracker import embed_boxes

if TYPE_CHECKING:
    from masa_track.video.scene_change import Thumbnail

LOG = logging.getLogger(__name__)
EXEMPLAR = "exemplar"  # the phrase that is shown where exemplars are given alone
_PAIRS = ("identity", "before", "viewed", "seen")  # dictionaries of a state
_CLEAN_SCORE, _CLEAN_IOU, _CLEAN_COVERAGE = 0.7, 0.5, 0.5  # of a masklet whose embedding is remembered


class ConceptTracker:
    """Finds, segments and tracks all instances of phrases; see :class:`masa_track.contracts.IdentitySource`.

    For each frame, the model's vision encoder runs once, the detector runs once for each phrase, and the propagator
    carries the masks of all masklets on. For each phrase, :class:`ConceptLogic` decides what is born, matched, hidden
    and removed. Then the propagator remembers the cleaned masks.

    Results come ``look_ahead`` frames late. A masklet that is removed in this time was a wrong birth, and is in no
    result. With ``look_ahead=0`` results come at once, and wrong births are in them until they are removed.

    The identity of an instance is the number of its first masklet, from 0 on. Without an ``embedder`` each masklet is
    an instance of its own. With one, :class:`InstanceMemory` recognises instances that left, were hidden for long or
    are back after a cut; their masklet gets the old identity in all of its frames.

    Memory does not grow with the length of a video: masklets end (``ConceptOptions.end_empty`` and ``end_unmatched``),
    instances that are away are forgotten (``IdentityOptions.memory_seconds`` and ``most_away``), and masks that wait
    for the look-ahead are packed bits.

    Args:
        model: detects and propagates.
        text: phrases, separated by ``.`` or as a list; None: exemplars alone.
        exemplars: boxes that show instances, or what is none.
        options: of the logic.
        embedder: embeds boxes, e.g. ``masa_track.load("nano")``; the model itself where it can; None: no appearance.
        identity_options: of the recognition by ``embedder``.
        look_ahead: frames by which results come late; None: ``options.hot_start - 1``, as officially.
        cut_change: change of the picture (see :func:`masa_track.video.scene_change.scene_change`) from which it is the
            first one after a cut: then all masklets end. None: cuts are not looked for.
        semantic: whether the semantic map of each phrase, (h, w) float32 logits, is put into
            ``extras["semantic"]``.

    Raises:
        InputError: nothing to look for, a phrase that the model does not take, or exemplars that cannot be.
    """

    def __init__(
        self,
        model: ConceptModel,
        text: str | Sequence[str] | None = None,
        exemplars: Sequence[Exemplar] = (),
        *,
        options: ConceptOptions | None = None,
        embedder: Embeds | None = None,
        identity_options: IdentityOptions | None = None,
        look_ahead: int | None = None,
        cut_change: float | None = 0.5,
        semantic: bool = False,
    ) -> None:
        self.model, self.embedder, self.semantic = model, embedder, semantic
        self.options = options or ConceptOptions()
        self.look_ahead = max(self.options.hot_start - 1, 0) if look_ahead is None else look_ahead
        if self.options.reverse:
            raise InputError("options must not have reverse: a video is read forwards")
        if not (isinstance(self.look_ahead, int) and self.look_ahead >= 0):
            raise InputError(f"look_ahead must be a whole number of 0 or more frames, got {look_ahead}")
        if cut_change is not None and not 0 < cut_change <= 2:
            raise InputError(f"cut_change must be above 0 and at most 2, or None, got {cut_change}")
        self.cut_change = cut_change
        self._without_text = text is None
        if text is None and not exemplars:
            raise InputError("text or exemplars must be given: they say what to look for")
        self.phrases = [EXEMPLAR] if text is None else split_phrases(text)
        for phrase in () if text is None else self.phrases:
            model.check_phrase(phrase)
        self._given = [checked_exemplar(exemplar, self.phrases) for exemplar in exemplars]
        check_contradictions(self._given)
        prior = getattr(embedder, "prior", None)
        self._instances = None if embedder is None else InstanceMemory(identity_options, prior)
        self.reset()

    def reset(self) -> None:
        """Forgets everything, for another video; text and exemplars stay."""
        self._propagator = self.model.propagator()
        self._born = 0
        self._logics = [ConceptLogic(self.options, self._next) for _ in self.phrases]
        self._exemplars = {phrase: Exemplars() for phrase in self.phrases}
        for exemplar in self._given:
            self._add(exemplar)
        if self._without_text and not self._exemplars[EXEMPLAR].positive:
            LOG.warning(
                "there are only negative exemplars and no text: they say what is not looked for, but not what is"
            )
        if self._instances is not None:
            self._instances.reset()
        self._count, self._last, self._time = 0, 0, 0.0  # frames so far, number and time of the last one
        self._resumed_at = 0  # number of the last frame before a run was resumed
        self._thumbnail: Thumbnail | None = None
        self._boxes = np.zeros((0, 4))  # of masklets in the last frame
        self._waiting: deque[Waiting] = deque()
        self._removed: set[int] = set()  # masklets that were taken back, as long as a waiting frame may show them
        self._newborn: dict[int, Newborn] = {}
        self._identity: dict[int, int] = {}  # of masklets that took an old one
        self._before: dict[int, float] = {}  # by such a masklet: when the instance was in the picture before
        self._viewed: dict[int, int] = {}  # by identity: count of frames at its last view
        self._ending: set[int] = set()  # identities that ended, but were shown in the last frame
        self._seen: dict[int, bool] = {}  # by identity that was given out: whether the last frame showed it

    def add_exemplar(self, exemplar: Exemplar) -> None:
        """Adds an exemplar while the video runs: of a frame that is still to come, or of another picture.

        Raises:
            InputError: it cannot be, its frame has passed, or it contradicts another one.
        """
        exemplar = checked_exemplar(exemplar, self.phrases)
        if exemplar.image is None and exemplar.frame <= self._last:
            raise InputError(
                f"frame of an exemplar must be after the last frame {self._last}, got {exemplar.frame}: "
                "give its picture as image, then it applies from the next frame on"
            )
        check_contradictions([*self._given, exemplar])
        self._add(exemplar)
        self._given.append(exemplar)

    def _add(self, exemplar: Exemplar) -> None:
        assert exemplar.phrase is not None
        known = self._exemplars[exemplar.phrase]
        if exemplar.image is not None:
            picture = exemplar.image
            boxes, positive = inside([exemplar], (picture.shape[1], picture.shape[0]), "the exemplar")
            known.carried.append(self.model.encode_exemplars(self.model.encode([picture])[0], boxes, positive))
        else:
            known.coming.setdefault(exemplar.frame, []).append(exemplar)
        known.positive |= exemplar.positive

    def unused(self) -> list[Exemplar]:
        """Exemplars whose frame did not come."""
        return [one for known in self._exemplars.values() for due in known.coming.values() for one in due]

    def _next(self) -> int:
        self._born += 1
        return self._born - 1

    def step(
        self, frame: Frame, detections: sv.Detections | None = None, *, features: Features | None = None
    ) -> list[FrameResult]:
        """Tracks one frame.

        Args:
            frame: with its picture.
            detections: are not used.
            features: of the model, for the same frame; others are not used.

        Returns:
            The results that are finished now. Their rows have masks, boxes around them, as score that of the detection
            that started the masklet, as class the number of the phrase, and in ``data``: ``phrase``; ``phrases``, of
            all that show this object, separated by ``.``; ``presence`` of the phrase in the frame; ``local_score`` of
            the detection in the frame, NaN where there is none. ``extras``: ``presence`` by phrase, ``semantic``, and
            ``cost``: seconds by stage, ``objects`` and ``memory_bytes``.

        After :meth:`load_state_dict`, the frames that were not given out are to come again, for their pictures; they
        are not tracked again.

        Raises:
            InputError: the frame has no picture, or an exemplar does not fit it; or the run was resumed after it, and
                it was not used before. Nothing has changed then.
        """
        image = frame.picture
        if self._resumed_at >= frame.number:
            self._come_again(frame)
            return []
        self._waiting = deque(one for one in self._waiting if not one.again)  # the others cannot be read any more
        size = image.shape[1], image.shape[0]
        due = {phrase: known.at(frame.number, size) for phrase, known in self._exemplars.items()}
        clock = _Clock()
        if features is None or features.key != self.model.key:
            features = self.model.encode([image])[0]
        clock.stop("encode")
        found = [self._detect(features, phrase, due[phrase]) for phrase in self.phrases]
        clock.stop("detect")
        thumbnail, cut = self._compared(image)
        carried = {
            phrase: self.model.encode_exemplars(features, *boxes) for phrase, boxes in due.items() if boxes is not None
        }
        over = self._end_all() if cut else []
        proposal = self._propagator.propose(replace(frame, number=self._count + 1), features)
        clock.stop("propagate")
        plans, shown = self._decide(found, proposal, size)
        clock.stop("associate")
        presence = [one.presence for one in found]
        ended = self._identities(frame, features, plans, shown, presence)
        clock.stop("identify")
        for phrase, tokens in carried.items():
            self._exemplars[phrase].carried.append(tokens)
            del self._exemplars[phrase].coming[frame.number]
        self._thumbnail = thumbnail
        self._boxes = np.array([one.box for group in shown for one in group], np.float64).reshape(-1, 4)
        extras: dict[str, Any] = {"presence": dict(zip(self.phrases, presence, strict=True))}
        if self.semantic:
            extras["semantic"] = {phrase: one.semantic for phrase, one in zip(self.phrases, found, strict=True)}
        objects, held = sum(len(logic.masklets) for logic in self._logics), self._propagator.memory_bytes()
        extras["cost"] = {**clock.seconds, "objects": objects, "memory_bytes": held}
        self._waiting.append(Waiting(frame, self._count, size, shown, presence, extras, cut, over + ended))
        self._count, self._last, self._time = self._count + 1, frame.number, frame.time
        return self._given_out(self.look_ahead)

    def finish(self) -> list[FrameResult]:
        """The results that are still due at the end of the source; also after an interruption."""
        for one in self.unused():
            LOG.warning("the exemplar in frame %d was not used: the video ended at frame %d", one.frame, self._last)
        if self._instances is not None:
            self._name_all()
        return self._given_out(0)

    def state_dict(self) -> dict[str, np.ndarray]:
        """The state after the last frame, as arrays of numbers and text, without pictures.

        The frames that were not given out are part of it. Masks of the memory take up to
        :meth:`MaskPropagator.most_bytes_per_object` of each masklet.
        """
        masklets = {one.identity: one.masklet for wait in self._waiting for group in wait.shown for one in group}
        masklets |= {identity: one for logic in self._logics for identity, one in logic.masklets.items()}
        state = {
            "about": np.array(self._about()),
            "living": states.text([list(logic.masklets) for logic in self._logics]),
            "masklets": states.masklets_to_array(masklets),
            "numbers": states.text([self._count, self._last, self._time, self._born]),
            "removed": states.text(sorted(self._removed)),
            "ending": states.text(sorted(self._ending)),
            "boxes": self._boxes.copy(),
            **{name: states.text(list(getattr(self, f"_{name}").items())) for name in _PAIRS},
            **states.named("propagator", self._propagator.state_dict()),
            **states.named("waiting", states.waiting_to_arrays(self._waiting)),
            **states.named("newborn", states.newborn_to_arrays(self._newborn.values())),
        }
        known = [self._exemplars[phrase] for phrase in self.phrases]
        coming = [[frame, *_told(one)] for each in known for frame, due in each.coming.items() for one in due]
        state["coming"] = states.text(coming)
        state["positive"] = states.text([each.positive for each in known])
        carried = states.exemplars_to_arrays([each.carried for each in known], self.model.exemplars_to_arrays)
        state |= states.named("carried", carried)
        if self._thumbnail is not None:
            state |= states.named("thumbnail", self._thumbnail._asdict())
        if self._instances is not None:
            state |= states.named("instances", self._instances.state_dict())
        return state

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Goes on from a state of :meth:`state_dict`, of a tracker with the same arguments.

        The source is to give the frames that were not given out again, see :meth:`step`.

        Raises:
            InputError: the state does not fit; nothing has changed then.
        """
        about = str(np.asarray(state.get("about", "")))
        if about != self._about():
            raise InputError(f"the state is of a tracker with {about or 'nothing'}, not with {self._about()}")
        before = dict(vars(self))
        try:
            with states.reading_state():
                self._load(state)
        except InputError:
            vars(self).update(before)
            raise

    def _load(self, state: Mapping[str, np.ndarray]) -> None:
        def pairs(name: str) -> dict[int, Any]:
            return dict(map(tuple, states.value_of(state, name)))

        self._propagator = self.model.propagator()
        self._propagator.load_state_dict(states.part(state, "propagator"))
        masklets = states.masklets_of(state, "masklets")
        living = states.value_of(state, "living")
        self._logics = [ConceptLogic(self.options, self._next) for _ in self.phrases]
        for logic, ids in zip(self._logics, living, strict=True):
            logic.masklets = {identity: masklets[identity] for identity in ids}
        self._waiting = deque(states.waiting_of(states.part(state, "waiting"), masklets))
        self._newborn = states.newborn_of(states.part(state, "newborn"))
        self._removed, self._ending = set(states.value_of(state, "removed")), set(states.value_of(state, "ending"))
        for name in _PAIRS:
            setattr(self, f"_{name}", pairs(name))
        self._boxes = np.array(state["boxes"], np.float64).reshape(-1, 4)
        carried = states.exemplars_of(states.part(state, "carried"), self.model.exemplars_of_arrays)
        positive = states.value_of(state, "positive")
        self._exemplars = {
            phrase: Exemplars({}, tokens, shown)
            for phrase, tokens, shown in zip(self.phrases, carried, positive, strict=True)
        }
        for frame, phrase, box, shown in states.value_of(state, "coming"):
            one = Exemplar(np.array(box, np.float32), positive=shown, frame=frame, phrase=phrase)
            self._exemplars[phrase].coming.setdefault(frame, []).append(one)
        cells = states.part(state, "thumbnail")
        self._thumbnail = None
        if cells:
            from masa_track.video.scene_change import Thumbnail

            self._thumbnail = Thumbnail(np.array(cells["grey"], np.float32), np.array(cells["background"], bool))
        self._count, self._last, self._time, self._born = states.value_of(state, "numbers")
        self._resumed_at = self._last
        if self._instances is not None:
            self._instances.load_state_dict(states.part(state, "instances"))  # the last one: it changes by itself

    def _about(self) -> str:
        """What a state must agree in: model, embedder, phrases and options."""
        options = {"logic": asdict(self.options), "look_ahead": self.look_ahead, "cut_change": self.cut_change}
        if self._instances is not None:
            options["identities"] = asdict(self._instances.options)
            options["embedder"] = str(getattr(self.embedder, "key", type(self.embedder).__name__))
        about = {"model": self.model.key, "phrases": self.phrases, "semantic": self.semantic, **options}
        return json.dumps(about, sort_keys=True)

    def _come_again(self, frame: Frame) -> None:
        """Takes the picture of a frame that was tracked before the run was resumed."""
        for one in self._waiting:
            if one.frame.number == frame.number:
                one.frame, one.again = frame, False
                return
        raise InputError(f"frame {frame.number} was not used before the run was resumed after frame {self._resumed_at}")

    def _detect(self, features: Features, phrase: str, due: tuple[np.ndarray, np.ndarray] | None) -> ConceptFrame:
        boxes, positive = due or (None, None)
        if self._without_text and boxes is None and not self._exemplars[phrase].carried:  # no exemplar came yet
            none = np.zeros(0, np.float32)
            return ConceptFrame(none.reshape(0, 4), none, none, none.reshape(0, 1, 1), 0.0)
        return self.model.detect(
            features,
            None if self._without_text else phrase,
            boxes,
            positive,
            self._exemplars[phrase].carried,
            self.options.least_score,
            self.semantic,
        )

    def _compared(self, image: np.ndarray) -> tuple[Thumbnail | None, bool]:
        """The picture's thumbnail, and whether it is the first one after a cut."""
        if self.cut_change is None:
            return None, False
        from masa_track.video.scene_change import scene_change, thumbnail

        now = thumbnail(image, self._boxes)
        cut = self._thumbnail is not None and scene_change(self._thumbnail, now) >= self.cut_change
        return now, cut

    def _end_all(self) -> list[int]:
        """All masklets end: their memory shows another scene. Returns their identities, where none come back."""
        ended = [i for logic in self._logics for i in logic.masklets]
        if self._instances is not None:
            self._name_all()
            ended = self._unknown(self._instances, ended)
        self._propagator.reset()
        for logic in self._logics:
            logic.masklets.clear()
        return ended

    def _decide(
        self, found: Sequence[ConceptFrame], proposal: MaskletFrame, size: tuple[int, int]
    ) -> tuple[list[Plan], list[list[Shown]]]:
        """Decides births, matches and ends of all phrases, and writes the memory."""
        plans, shown = [], []
        place_of = {identity: k for k, identity in enumerate(proposal.ids.tolist())}
        changed: dict[int, np.ndarray] = {}
        for logic, one in zip(self._logics, found, strict=True):
            places = [place_of[identity] for identity in logic.masklets]
            logits, boxes = np.asarray(one.logits, np.float32), one.boxes / np.array([*size, *size], np.float32)
            if places:
                assert proposal.logits is not None, "a propagator of concepts gives logits"
                propagated = proposal.logits[places]
                logits = logits if len(logits) else np.zeros((0, *propagated.shape[1:]), np.float32)
            else:
                propagated = np.zeros((0, *logits.shape[1:]), np.float32)
            given = Instances(boxes, one.scores, logits)
            rows = given.kept(self.options)
            given = Instances(boxes[rows], one.scores[rows], logits[rows])
            before = dict(logic.masklets)
            plan = logic.step(self._count, given, propagated, proposal.object_logits[places])
            local = {identity: float(one.local_scores[rows[n]]) for identity, (n, _) in plan.best.items()}
            local |= {identity: float(one.local_scores[rows[n]]) for identity, n in plan.new.items()}
            shown.append(shown_in(plan, before | logic.masklets, size, local))
            plans.append(plan)
            for identity in (*plan.removed, *plan.ended):
                self._propagator.forget(identity)
            for identity, n in (plan.new | plan.reconditioned).items():
                mask = prompt_mask(given.logits[n], size)
                self._propagator.prompt(identity, Prompt(mask=mask, clear=identity in plan.reconditioned))
            for k, identity in enumerate(plan.ids.tolist()):
                kept = identity in logic.masklets and identity not in plan.reconditioned
                if kept and not np.array_equal(plan.memory[k], propagated[k]):
                    changed[identity] = plan.memory[k]
        self._propagator.commit(changed)
        return plans, shown

    def _identities(
        self,
        frame: Frame,
        features: Features,
        plans: Sequence[Plan],
        shown: Sequence[Sequence[Shown]],
        presence: Sequence[float],
    ) -> list[int]:
        """Renews what is known of instances; returns identities that end."""
        for plan in plans:
            self._removed |= set(plan.removed)
        memory = self._instances
        if memory is None:
            self._forget()
            return [identity for plan in plans for identity in (*plan.removed, *plan.ended)]
        gone = [own for plan in plans for own in self._taken_back(memory, plan)]
        for label, plan in enumerate(plans):
            self._newborn |= {i: Newborn(i, label, frame.time, frame.time, self._count) for i in plan.new}
            for identity in plan.ended:
                self._newborn.pop(identity, None)
            gone += self._unknown(memory, plan.ended)
        rows = [
            (label, one, clean)
            for label, (plan, group) in enumerate(zip(plans, shown, strict=True))
            for one, clean in zip(group, _clean(plan, group, presence[label]), strict=True)
            if one.identity not in self._removed
        ]
        memory.present(frame.time, [self._own(one.identity) for _, one, _ in rows])
        for _, one, _ in rows:
            if one.identity in self._newborn:
                self._newborn[one.identity].present = frame.time
        self._add_views(memory, frame, features, [(label, one) for label, one, clean in rows if clean])
        due = [i for i, one in self._newborn.items() if one.frame <= self._count - self.look_ahead]
        self._name([self._newborn[i] for i in due], frame.time)  # their first frame is given out now
        living = [self._own(identity) for logic in self._logics for identity in logic.masklets]
        gone += memory.forget(frame.time, living)
        self._forget()
        return gone

    def _own(self, masklet: int) -> int:
        """The identity of a masklet."""
        return self._identity.get(masklet, masklet)

    def _unknown(self, memory: InstanceMemory, masklets: Iterable[int]) -> list[int]:
        """Identities of masklets that were never seen well, so that they cannot come back."""
        return [own for own in map(self._own, masklets) if own not in memory.ids]

    def _taken_back(self, memory: InstanceMemory, plan: Plan) -> list[int]:
        """Undoes the births of removed masklets; returns identities that were none."""
        gone = []
        for identity in plan.removed:
            self._newborn.pop(identity, None)
            if identity in self._before:
                memory.set_present(self._own(identity), self._before[identity])
            else:
                memory.drop(identity)
                gone.append(identity)
        return gone

    def _add_views(
        self, memory: InstanceMemory, frame: Frame, features: Features, rows: Sequence[tuple[int, Shown]]
    ) -> None:
        """Embeds masklets that can be seen well: newborn ones, and others every few frames."""
        due = []
        for label, one in rows:
            last = self._viewed.get(self._own(one.identity), -memory.options.view_frames)
            late = self._count - last >= memory.options.view_frames
            newborn = self._newborn.get(one.identity)
            few = newborn is not None and len(newborn.views) < memory.options.newborn_views
            if few or late:
                due.append((label, one))
        if not due:
            return
        boxes = np.array([one.box for _, one in due], np.float32)
        assert self.embedder is not None
        own = features if getattr(self.embedder, "key", None) == features.key else None
        embeddings = np.asarray(embed_boxes(self.embedder, frame.picture, boxes, own), np.float32)
        known = []
        for place, (label, one) in enumerate(due):
            identity = self._own(one.identity)
            if one.identity in self._newborn:
                self._newborn[one.identity].views.append(embeddings[place])
            elif identity in memory.ids:
                known.append(place)
            else:  # it was not seen well before it was given out
                memory.add(
                    frame.time, Newborn(identity, label, frame.time, frame.time, self._count, [embeddings[place]])
                )
            self._viewed[identity] = self._count
        memory.add_views(frame.time, [self._own(due[place][1].identity) for place in known], embeddings[known])

    def _name(self, newborn: Sequence[Newborn], time: float) -> None:
        """Decides the identities of newborn masklets; those without a view are new ones."""
        memory = self._instances
        assert memory is not None
        for one in newborn:
            del self._newborn[one.masklet]
        newborn = [one for one in newborn if one.views]
        waiting = [one for one in self._newborn.values() if len(one.views) >= memory.options.newborn_views]
        before = dict(zip(memory.ids.tolist(), memory.present_at().tolist(), strict=True))
        chosen = memory.decide(time, newborn, waiting)
        for one, identity in zip(newborn, chosen, strict=True):
            if identity is None:
                continue
            for logic in self._logics:  # the masklet that it had, which is empty
                for old in [i for i in logic.masklets if self._own(i) == identity]:
                    del logic.masklets[old]
                    self._propagator.forget(old)
            self._identity[one.masklet], self._before[one.masklet] = identity, before[identity]

    def _name_all(self) -> None:
        """Decides the identities of all newborn masklets, in the order of their births."""
        for count in sorted({one.frame for one in self._newborn.values()}):
            self._name([one for one in self._newborn.values() if one.frame == count], self._time)

    def _forget(self) -> None:
        """Forgets what is not needed any more: of masklets that neither live nor wait, and identities that ended."""
        needed = {one.identity for waiting in self._waiting for group in waiting.shown for one in group}
        needed |= {identity for logic in self._logics for identity in logic.masklets}
        self._removed &= needed
        self._identity = {i: own for i, own in self._identity.items() if i in needed}
        self._before = {i: time for i, time in self._before.items() if i in needed}
        if self._instances is not None:
            known = {*self._instances.ids.tolist(), *self._newborn}
            self._viewed = {i: count for i, count in self._viewed.items() if i in known}

    def _given_out(self, keep: int) -> list[FrameResult]:
        """The results of all waiting frames but the last ``keep`` ones."""
        results = []
        while len(self._waiting) > keep and not self._waiting[0].again:
            one = self._waiting.popleft()
            groups = [visible(group, one.number, self._removed, self.options) for group in one.shown]
            found = detections_of(self.phrases, groups, one.presence, one.size, self._identity, self._seen)
            results.append(FrameResult(one.frame, found, self._events(one, found), extras=one.extras))
        return results

    def _events(self, one: Waiting, found: sv.Detections) -> list[TrackEvent]:
        """What happened to identities since the result before."""
        assert found.tracker_id is not None
        here, at = set(found.tracker_id.tolist()), (one.frame.number, one.frame.time)
        events = [TrackEvent("cut", -1, *at)] if one.cut else []
        for identity in sorted(here):
            if not self._seen.get(identity, False):
                events.append(TrackEvent("found" if identity in self._seen else "born", identity, *at))
        left = sorted(identity for identity, seen in self._seen.items() if seen and identity not in here)
        self._seen |= dict.fromkeys(left, False) | dict.fromkeys(here, True)
        events += [TrackEvent("lost", identity, *at) for identity in left]
        self._ending |= set(one.ended)
        for identity in sorted(self._ending - here):  # the last frame of one that was unmatched for long still shows it
            if self._seen.pop(identity, None) is not None:
                events.append(TrackEvent("ended", identity, *at))
        self._ending &= here
        return events


def _clean(plan: Plan, group: Sequence[Shown], presence: float) -> np.ndarray:
    """(K,) bool, masklets of a phrase that can be seen well: a good detection follows them, and others do not cover."""
    boxes = np.array([one.box for one in group], np.float32).reshape(-1, 4)
    scores = presence * np.array([one.local_score for one in group], np.float64)
    overlap = np.array([plan.best.get(one.identity, (0, 1.0))[1] for one in group], np.float64)
    return (scores >= _CLEAN_SCORE) & (overlap >= _CLEAN_IOU) & (coverage(boxes) <= _CLEAN_COVERAGE)


def _told(exemplar: Exemplar) -> tuple[str | None, list[float], bool]:
    """Phrase, box and whether it is positive."""
    return exemplar.phrase, np.asarray(exemplar.box, np.float32).tolist(), exemplar.positive


class _Clock:
    """Seconds of the stages of a frame."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = perf_counter()

    def stop(self, stage: str) -> None:
        """The stage has ended, and the next one begins."""
        now = perf_counter()
        self.seconds[stage] = now - self._since
        self._since = now
