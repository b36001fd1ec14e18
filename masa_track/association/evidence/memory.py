"""What the association by motion and appearance remembers of tracks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from masa_track.association.evidence import kalman
from masa_track.association.evidence.speeds import FACTORS
from masa_track.association.evidence.undone_cuts import BeforeCut
from masa_track.association.gallery import Gallery

UNUSED = kalman.MotionNoise(speeds=(), persistence=1.0, position=1.0, extent=1.0)  # no filter


class FusedMemory:
    """The tracks that can still be matched, as arrays of one row per track, oldest first.

    Attributes:
        gallery: embeddings of each track.
        ids: (M,) int64 identities; -1 for a tentative track, which gets its number when it is confirmed.
        filters: (M, B, 8) states that each filter expects now, see :mod:`~masa_track.association.evidence.kalman`.
        covariances: (M, B, 3, 4) their covariances.
        shown: (M, S, 8) states of the filter for boxes that are shown, S = 1, or 0 where they are not asked for, and
        shown_covariances: (M, S, 3, 4) their covariances.
        predictions: (M, B) how well each filter predicted its track, see
            :mod:`~masa_track.association.evidence.speeds`.
        best_filter: (M,) int64, the filter with the largest weight.
        seen: (M,) time of the last detection, seconds.
        viewed: (M,) time when a view was last added to the gallery, seconds.
        confirmation: (M,) log-odds that the track is a real object; infinite when it is confirmed.
        places: (M, 2) centre of the last detection, in pixels of the picture as it is now.
        at_border: (M,) probability that the last detection was entering or leaving the picture.
        out_of_view: (M,) bool, it cannot be detected in this frame: the camera has turned away from its place, its
            group is out of view, or no detector ran.
        out_of_view_seconds: (M,) seconds since the last detection in which it was so.
        classes: (M,) int64, the class with the largest sum of scores; of equal ones the smallest.
        groups: (M,) int64, a track is only given to detections of its group.
        votes: sum of scores by class, for each track.
        tentative_rows: of each tentative track, (frame number, row of the observation) of its detections, oldest first;
            empty for a confirmed one.
    """

    _ROWS = (
        *("shown", "shown_covariances"),
        *("ids", "filters", "covariances", "predictions", "best_filter", "seen", "viewed", "confirmation", "places"),
        *("at_border", "out_of_view", "out_of_view_seconds", "classes", "groups"),
    )

    def __init__(self, views: int, dimension: int, shown: kalman.MotionNoise = UNUSED) -> None:
        self._shown_noise = shown
        self.shown = np.zeros((0, len(shown.speeds), 8))
        self.shown_covariances = np.zeros((0, len(shown.speeds), 3, 4))
        self.gallery = Gallery(views, dimension)
        self.ids = np.zeros(0, np.int64)
        self.filters = np.zeros((0, len(FACTORS), 8))
        self.covariances = np.zeros((0, len(FACTORS), 3, 4))
        self.predictions = np.zeros((0, len(FACTORS)))
        self.best_filter = np.zeros(0, np.int64)
        self.seen = np.zeros(0)
        self.viewed = np.zeros(0)
        self.confirmation = np.zeros(0)
        self.places = np.zeros((0, 2))
        self.at_border = np.zeros(0)
        self.out_of_view = np.zeros(0, bool)
        self.out_of_view_seconds = np.zeros(0)
        self.classes = np.zeros(0, np.int64)
        self.groups = np.zeros(0, np.int64)
        self.votes: list[dict[int, float]] = []
        self.tentative_rows: list[tuple[tuple[int, int], ...]] = []

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def states(self) -> np.ndarray:
        """(M, 8) expected states of the filters with the largest weights."""
        return self.filters[np.arange(len(self)), self.best_filter]

    def copy(self) -> FusedMemory:
        """The same tracks; changes to the copy leave this one as it is."""
        other = FusedMemory.__new__(FusedMemory)
        other._shown_noise = self._shown_noise
        other.gallery = self.gallery.copy()
        for name in self._ROWS:
            setattr(other, name, getattr(self, name).copy())
        other.votes = self.votes.copy()  # the dicts are shared: `vote` replaces, never changes them
        other.tentative_rows = self.tentative_rows.copy()
        return other

    def move_on(self, oldest: float, passed: float, noise: kalman.MotionNoise) -> None:
        """Forgets what was last seen before ``oldest`` s, and expects the others ``passed`` s later."""
        self.keep(self.seen >= oldest)
        self.filters, self.covariances = kalman.predict(self.filters, self.covariances, passed, noise)
        if self._shown_noise.speeds:
            self.shown, self.shown_covariances = kalman.predict(
                self.shown, self.shown_covariances, passed, self._shown_noise
            )

    def apply_camera(self, camera: np.ndarray | None, view: np.ndarray) -> None:
        """The camera moved by the (2, 3) affine (None: unknown), and the picture is now xyxy ``view``.

        An object that walks out of the picture is missing; one that the camera turned away from is out of view.
        """
        self.out_of_view = np.zeros(len(self), bool)
        if camera is None:
            return
        affine = np.asarray(camera, np.float64)
        self.filters, self.covariances = kalman.warp(self.filters, self.covariances, affine)
        self.shown, self.shown_covariances = kalman.warp(self.shown, self.shown_covariances, affine)
        self.places = self.places @ affine[:, :2].T + affine[:, 2]
        self.out_of_view = np.any((self.places < view[:2]) | (self.places > view[2:]), axis=1)

    def shift(self, offset: np.ndarray) -> None:
        """The camera was bumped: everything is elsewhere by ``offset`` (2,) pixels."""
        self.filters[..., :2] += offset
        self.shown[..., :2] += offset
        self.places = self.places + offset

    def before_cut(self, at: float, cut_at: float) -> BeforeCut:
        """What can be restored if the cut at ``at`` turns out to be none; ``cut_at`` is when the one before it was."""
        own = self.confirmation == np.inf
        return BeforeCut(at, cut_at, self.ids[own], self.filters[own], self.covariances[own], self.predictions[own])

    def rows_of(self, ids: np.ndarray) -> np.ndarray:
        """(K,) rows of the tracks with identities (K,), all of which must be here."""
        order = np.argsort(self.ids)
        return np.asarray(order[np.searchsorted(self.ids, ids, sorter=order)])

    def restore(self, old: BeforeCut) -> None:
        """The tracks that are still remembered are where they were expected before a cut."""
        kept = np.isin(old.ids, self.ids)
        rows = self.rows_of(old.ids[kept])
        self.filters[rows], self.covariances[rows] = old.filters[kept], old.covariances[kept]

    def scale(self, factors: np.ndarray) -> None:
        """The pictures have another size from now on: ``factors`` (2,), new width and height over the old ones."""
        self.filters, self.covariances = kalman.scale(self.filters, self.covariances, factors)
        self.shown, self.shown_covariances = kalman.scale(self.shown, self.shown_covariances, factors)
        self.places = self.places * factors

    def keep(self, rows: np.ndarray) -> None:
        """Keeps the tracks where the (M,) mask is true."""
        if rows.all():
            return
        self.gallery.keep(rows)
        for name in self._ROWS:
            setattr(self, name, getattr(self, name)[rows])
        kept = np.flatnonzero(rows).tolist()
        self.votes = [self.votes[row] for row in kept]
        self.tentative_rows = [self.tentative_rows[row] for row in kept]

    def add(
        self,
        ids: np.ndarray,
        boxes: np.ndarray,
        embeddings: np.ndarray,
        labels: np.ndarray,
        scores: np.ndarray,
        confirmation: np.ndarray,
        groups: np.ndarray,
        embedded: np.ndarray,
        at_border: np.ndarray,
        now: float,
        noise: kalman.MotionNoise,
    ) -> None:
        """Adds new tracks. Shapes as the attributes, (K, ...); ``embedded`` (K,) bool: which have an embedding."""
        filters, covariances = kalman.start(boxes, noise)
        times, never = np.full(len(ids), now), np.zeros(len(ids))
        predictions, best = np.zeros(filters.shape[:2]), np.zeros(len(ids), np.int64)
        shown = kalman.start(boxes, self._shown_noise)
        rows: tuple[np.ndarray, ...] = (
            *shown,
            ids,
            filters,
            covariances,
            predictions,
            best,
            times,
            times,
            confirmation,
        )
        rows += (filters[:, 0, :2], at_border, never > 0, never, labels, groups)
        for name, values in zip(self._ROWS, rows, strict=True):
            setattr(self, name, np.concatenate((getattr(self, name), values)))
        self.gallery.add(embeddings, embedded)
        self.votes += [{label: score} for label, score in zip(labels.tolist(), scores.tolist(), strict=True)]
        self.tentative_rows += [()] * len(ids)

    def correct(
        self,
        rows: np.ndarray,
        boxes: np.ndarray,
        at_border: np.ndarray,
        now: float,
        noise: kalman.MotionNoise,
        anew: bool,
    ) -> None:
        """Tracks ``rows`` (K,) are seen at (K, 4) boxes; ``anew`` after a cut, when velocities mean nothing."""
        self.seen[rows], self.out_of_view_seconds[rows], self.at_border[rows] = now, 0, at_border
        self.places[rows] = kalman.to_centres(boxes)[:, :2]
        if anew:
            self.filters[rows], self.covariances[rows] = kalman.start(boxes, noise)
        else:
            self.filters[rows], self.covariances[rows] = kalman.correct(
                self.filters[rows], self.covariances[rows], boxes, noise
            )
        if self._shown_noise.speeds:
            own, of = self.shown[rows], self.shown_covariances[rows]
            noise = self._shown_noise
            new = kalman.start(boxes, noise) if anew else kalman.correct(own, of, boxes, noise)
            self.shown[rows], self.shown_covariances[rows] = new

    def add_confirmation(self, rows: np.ndarray, more: np.ndarray, enough: float, next_id: int) -> int:
        """Adds (K,) to the log-odds of tracks ``rows`` (K,); those with ``enough`` are confirmed, in this order.

        Returns:
            The number of the next identity; confirmed tracks got ``next_id`` and the ones after it.
        """
        confirmation = self.confirmation[rows] + more
        confirmation = np.where(confirmation >= enough, np.inf, confirmation)
        self.confirmation[rows] = confirmation
        confirmed = rows[(confirmation == np.inf) & (self.ids[rows] < 0)]
        self.ids[confirmed] = np.arange(next_id, next_id + len(confirmed))
        return next_id + len(confirmed)

    def note_tentative(self, tracks: np.ndarray, number: int, rows: np.ndarray) -> None:
        """Of tracks (K,), those without an identity took the rows (K,) of the observation of frame ``number``."""
        for track, row in zip(tracks.tolist(), rows.tolist(), strict=True):
            if self.ids[track] < 0:
                self.tentative_rows[track] += ((number, row),)

    def add_appearance(self, rows: np.ndarray, embeddings: np.ndarray, now: float, apart: float) -> None:
        """Tracks ``rows`` (K,) look like (K, D) now; every ``apart`` seconds a view is added to those kept."""
        old = now - self.viewed[rows] >= apart
        self.gallery.renew(rows[old], embeddings[old])
        self.gallery.replace_newest(rows[~old], embeddings[~old])
        self.viewed[rows[old]] = now

    def add_class_votes(self, rows: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> None:
        """Counts the classes of detections that tracks ``rows`` (K,) took, by score."""
        for row, label, score in zip(rows.tolist(), labels.tolist(), scores.tolist(), strict=True):
            votes = self.votes[row]
            self.votes[row] = votes = {**votes, label: votes.get(label, 0.0) + score}
            self.classes[row] = min(votes, key=lambda label: (-votes[label], label))

    def class_of(self, identity: int) -> int | None:
        """The class of one identity; None if it is not here."""
        rows = np.flatnonzero(self.ids == identity)
        return int(self.classes[rows[0]]) if rows.size and identity >= 0 else None

    def state_dict(self) -> dict[str, np.ndarray]:
        """The tracks as arrays."""
        votes = [(row, label, score) for row, of in enumerate(self.votes) for label, score in of.items()]
        counts = np.array([(row, label) for row, label, _ in votes], np.int64).reshape(-1, 2)
        arrays = {name: getattr(self, name).copy() for name in self._ROWS}
        arrays |= {"votes": counts, "vote_scores": np.array([score for _, _, score in votes], np.float64)}
        tentative = [(track, *pair) for track, pairs in enumerate(self.tentative_rows) for pair in pairs]
        arrays["tentative_rows"] = np.array(tentative, np.int64).reshape(-1, 3)
        return arrays | {f"gallery.{name}": value for name, value in self.gallery.state_dict().items()}

    @classmethod
    def of_state(cls, state: Mapping[str, np.ndarray], shown: kalman.MotionNoise = UNUSED) -> FusedMemory:
        """The memory of :meth:`state_dict`; raises LookupError or ValueError where that does not fit."""
        gallery = Gallery.of_state({name[8:]: value for name, value in state.items() if name.startswith("gallery.")})
        memory = cls(gallery.views, gallery.dimension, shown)
        memory.gallery = gallery
        for name in cls._ROWS:
            own = getattr(memory, name)
            setattr(memory, name, np.array(state[name], own.dtype).reshape(len(gallery), *own.shape[1:]))
        memory.votes = [{} for _ in range(len(gallery))]
        for (row, label), score in zip(state["votes"].tolist(), state["vote_scores"].tolist(), strict=True):
            memory.votes[row][label] = score
        memory.tentative_rows = [()] * len(gallery)
        for track, number, row in state["tentative_rows"].tolist():
            memory.tentative_rows[track] += ((number, row),)
        return memory
