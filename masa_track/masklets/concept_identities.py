"""Which new masklets are instances that were there before: by their appearance, with the engine's evidence.

numpy only. A memory of masks spans a few frames. What leaves, is hidden for long or returns after a cut comes back as a
new masklet; here it gets its old identity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from masa_track.association.evidence import returns
from masa_track.association.evidence.appearance import AppearancePrior, Observed, appearance_evidence
from masa_track.association.evidence.state import COMMON_TRUST, learned_arrays, learned_of
from masa_track.association.gallery import Gallery, unit
from masa_track.association.matching import most_evidence
from masa_track.errors import InputError

_NONE = -1e6  # log-odds of a pair that cannot be


@dataclass(frozen=True)
class IdentityOptions:
    """When a new masklet is an instance that was there before.

    Attributes:
        views: embeddings that are remembered of each instance.
        view_frames: frames from one remembered embedding to the next.
        newborn_views: embeddings of a new masklet in as many of its first frames. Its identity is decided when its
            first frame is given out.
        memory_seconds: for which an instance that is away is remembered.
        most_away: instances that are away and remembered; those away longest are forgotten first.
        least_odds: nats that a pair must exceed.
        margin: nats by which a pair must exceed every other pair of the new masklet or of the instance, also the pair
            of the new masklet and an instance that is in the picture beside it. If no pair has this margin, the masklet
            is new.
        return_odds: nats that are added: log-odds that a new masklet is an instance that was there before, apart from
            appearance. Lower: fewer returns are recognised.
        most_odds: nats of appearance, either way.
    """

    views: int = 6
    view_frames: int = 5
    newborn_views: int = 3
    memory_seconds: float = 30.0
    most_away: int = 1000
    least_odds: float = 0.0
    margin: float = 1.0
    return_odds: float = returns.INSIDE
    most_odds: float = 6.0

    def __post_init__(self) -> None:
        for name in ("views", "view_frames", "newborn_views", "most_away"):
            if not (isinstance(getattr(self, name), int) and getattr(self, name) > 0):
                raise InputError(f"{name} must be a whole number above 0, got {getattr(self, name)}")
        for name in ("memory_seconds", "most_odds"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise InputError(f"{name} must be a number above 0, got {getattr(self, name)}")
        if not (np.isfinite(self.margin) and self.margin >= 0):
            raise InputError(f"margin must be 0 or more nats, got {self.margin}")
        for name in ("least_odds", "return_odds"):
            if not np.isfinite(getattr(self, name)):
                raise InputError(f"{name} must be a finite number of nats, got {getattr(self, name)}")


@dataclass
class Newborn:
    """A masklet whose identity is not decided.

    Attributes:
        masklet: its number.
        label: its phrase.
        since: time of its birth, seconds.
        present: time when it was last in the picture, seconds.
        frame: count of frames at its birth.
        views: its embeddings so far, (D,) each.
    """

    masklet: int
    label: int
    since: float
    present: float
    frame: int
    views: list[np.ndarray] = field(default_factory=list)


class InstanceMemory:
    """The appearance of all instances that are in the picture or away.

    Args:
        options: see :class:`IdentityOptions`.
        prior: the cosines to expect of the model's embeddings; None: they are learned from the video.
    """

    def __init__(self, options: IdentityOptions | None = None, prior: AppearancePrior | None = None) -> None:
        self.options, self._prior = options or IdentityOptions(), prior
        self.reset()

    def reset(self) -> None:
        """Forgets all instances."""
        self._evidence = appearance_evidence(self._prior, self.options.most_odds)
        self._gallery: Gallery | None = None
        self._sum = np.zeros(0)
        self._count = 0
        self._alike: dict[int, float] = {}
        # By row of the gallery:
        self.ids = np.zeros(0, np.int64)
        self._labels = np.zeros(0, np.int64)
        self._present = np.zeros(0)  # time when it was last in the picture, seconds
        self._viewed = np.zeros(0)  # time of its newest view, seconds

    def __len__(self) -> int:
        return len(self.ids)

    def present(self, time: float, identities: Sequence[int]) -> None:
        """Instances are in the picture at ``time``, seconds."""
        self._present[np.isin(self.ids, identities)] = time

    def present_at(self) -> np.ndarray:
        """(M,) when each of ``ids`` was last in the picture, seconds."""
        return self._present

    def set_present(self, identity: int, time: float) -> None:
        """Corrects when an instance was last in the picture: the masklet that was taken for it was none."""
        if identity in self.ids:
            self._present[self._row(identity)] = time

    def add_views(self, time: float, identities: Sequence[int], embeddings: np.ndarray) -> None:
        """New views of K remembered instances that are in the picture together.

        Args:
            time: seconds.
            identities: K.
            embeddings: (K, D), not normalised.
        """
        rows = np.array([self._row(identity) for identity in identities], np.int64)
        if not len(rows):
            return
        assert self._gallery is not None
        views = unit(embeddings)
        cosines = self._gallery.similarities(views, self._centre())
        self._learn(time, rows, cosines)
        self._gallery = self._gallery.copy()  # which frees the rows of views that were replaced
        self._gallery.renew(rows, views)
        self._viewed[rows] = time

    def _learn(self, time: float, rows: np.ndarray, cosines: np.ndarray) -> None:
        """K instances of the picture are ``rows`` (K,) of the gallery and have cosines (K, M) to all."""
        gaps = np.maximum(time - self._viewed, 0.0)
        sure = np.ones(len(rows), bool)  # the masks say so
        self._evidence = self._evidence.learned(Observed(cosines, rows, sure, gaps, self.ids, time))
        if len(rows) > 1:
            among = self._evidence.log_odds(cosines[:, rows], np.full(len(rows), returns.LATE))
            self._alike = returns.learned(self._alike, self._labels[rows], among)

    def decide(self, time: float, newborn: Sequence[Newborn], waiting: Sequence[Newborn] = ()) -> list[int | None]:
        """Which remembered instance each new masklet is; None: it is a new one, and is remembered under its number.

        The assignment with the largest sum of log-odds is taken, ``min(appearance, a) + return_odds``, where a is the
        most that appearance can say given how similar the instances of the phrase are. A pair must exceed
        ``least_odds``, and by ``margin`` every other pair of either. An instance that was in the picture at the birth
        of a masklet, or after it, is not that masklet.

        Args:
            time: seconds.
            newborn: N masklets, each with a view.
            waiting: others whose identity is not decided yet; an instance that fits one of them as well is none of the
                ``newborn``.
        """
        if not newborn:
            return []
        every = [*newborn, *waiting]
        embeddings = unit(np.array([unit(np.array(one.views)).mean(axis=0) for one in every]))
        chosen: list[int | None] = [None] * len(newborn)
        if len(self) and self._gallery is not None:
            cosines = self._gallery.similarities(embeddings, self._centre())
            labels, since = np.array([[one.label, one.since] for one in every]).T
            same_phrase = labels[:, None] == self._labels
            away = same_phrase & (self._present < since[:, None])
            late = np.full(len(self), returns.LATE)
            looks = np.where(same_phrase, self._evidence.log_odds(cosines, late), _NONE)
            most = returns.most_appearance(np.array([self._alike.get(int(k), returns.ALIKE) for k in self._labels]))
            odds = np.where(away, np.minimum(looks, most) + self.options.return_odds, _NONE)
            taken, _ = most_evidence(odds, self.options.least_odds)
            for n, k in enumerate(taken[: len(newborn)].tolist()):
                others = away[:, k] & (np.arange(len(every)) != n)
                rivals = np.concatenate((np.delete(looks[n], k), looks[others, k]))
                if k >= 0 and looks[n, k] - rivals.max(initial=_NONE) >= self.options.margin:
                    chosen[n] = int(self.ids[k])
        for n, one in enumerate(newborn):
            identity = chosen[n]
            if identity is None:
                self.add(time, one)
            else:
                row = self._row(identity)
                assert self._gallery is not None
                self._gallery = self._gallery.copy()
                self._gallery.renew(np.array([row]), embeddings[n : n + 1])
                self._present[row], self._viewed[row] = one.present, time
        return chosen

    def add(self, time: float, new: Newborn) -> None:
        """Remembers a new instance with a view, under the number of its masklet."""
        view = unit(unit(np.array(new.views)).mean(axis=0))
        if self._gallery is None:
            self._gallery = Gallery(self.options.views, len(view))
            self._sum = np.zeros(len(view))
        self._gallery = self._gallery.copy()
        self._gallery.add(view[None])
        self._sum += view
        self._count += 1
        self.ids = np.append(self.ids, new.masklet)
        self._labels = np.append(self._labels, new.label)
        self._present, self._viewed = np.append(self._present, new.present), np.append(self._viewed, time)

    def forget(self, time: float, living: Sequence[int]) -> list[int]:
        """Forgets instances that were away too long, or too many; returns their identities.

        Args:
            time: seconds.
            living: identities that have a masklet; they are kept.
        """
        away = ~np.isin(self.ids, living)
        kept = ~away | (self._present >= time - self.options.memory_seconds)
        order = np.flatnonzero(away)[np.argsort(-self._present[away], kind="stable")]
        kept[order[self.options.most_away :]] = False
        return self._keep(kept)

    def drop(self, identity: int) -> None:
        """Forgets an instance that should not have been there."""
        self._keep(self.ids != identity)

    def _keep(self, kept: np.ndarray) -> list[int]:
        gone = self.ids[~kept].tolist()
        if gone and self._gallery is not None:
            self._gallery.keep(kept)
            self.ids, self._labels = self.ids[kept], self._labels[kept]
            self._present, self._viewed = self._present[kept], self._viewed[kept]
        return gone

    def state_dict(self) -> dict[str, np.ndarray]:
        """What is known of the instances, as arrays."""
        names = ("ids", "_labels", "_present", "_viewed", "_sum")
        state = {name.removeprefix("_"): getattr(self, name).copy() for name in names}
        state |= {f"evidence.{name}": value for name, value in learned_arrays(self._evidence).items()}
        if self._gallery is not None:
            state |= {f"gallery.{name}": value for name, value in self._gallery.state_dict().items()}
        alike = np.array(list(self._alike.items()), np.float64).reshape(-1, 2)
        return state | {"alike": alike, "count": np.array(self._count)}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Goes on from a state of :meth:`state_dict`.

        Raises:
            LookupError, ValueError, TypeError: where that does not fit; nothing has changed then.
        """

        def part(name: str) -> dict[str, np.ndarray]:
            return {key[len(name) + 1 :]: value for key, value in state.items() if key.startswith(f"{name}.")}

        views = part("gallery")
        gallery = Gallery.of_state(views) if views else None
        ids = np.array(state["ids"], np.int64)
        columns = [
            np.array(state[name], kind) for name, kind in (("labels", int), ("present", float), ("viewed", float))
        ]
        if any(column.shape != ids.shape for column in columns) or len(ids) != (0 if gallery is None else len(gallery)):
            raise ValueError("ids, labels, times and gallery of instances have other lengths")
        alike = {int(label): float(odds) for label, odds in np.asarray(state["alike"])}
        evidence = learned_of(part("evidence"), appearance_evidence(self._prior, self.options.most_odds))
        self._count, self._sum = int(state["count"]), np.array(state["sum"], np.float64)
        self._evidence, self._gallery, self._alike, self.ids = evidence, gallery, alike, ids
        self._labels, self._present, self._viewed = columns

    def _row(self, identity: int) -> int:
        return int(np.flatnonzero(self.ids == identity)[0])

    def _centre(self) -> np.ndarray:
        """(D,) what the instances so far have in common, the less the fewer there were."""
        return np.asarray(self._sum / (self._count + COMMON_TRUST), np.float32)
