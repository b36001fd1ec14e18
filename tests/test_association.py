"""The association engine as a whole: the reference's identities, a track's life, what it refuses."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from masa_track.association import PRESETS, Associator, FusedAssociator, any_options_of, options_of
from masa_track.association.other_names import _NAMES
from masa_track.errors import InputError

GOLDENS = Path(__file__).parent / "goldens"
CONFIGS = json.loads((GOLDENS / "association.json").read_text())["configs"]
OPTION_OF = {  # the reference's names; `with_cats` has no effect in its TAO tracker, see test_goldens
    "init_score_thr": "track_activation_threshold",
    "obj_score_thr": "object_score_threshold",
    "match_score_thr": "match_score_threshold",
    "memo_tracklet_frames": "memory_frames",
    "memo_momentum": "embedding_momentum",
    "distractor_score_thr": "distractor_score_threshold",
    "distractor_nms_thr": "distractor_iou_threshold",
    "memo_backdrop_frames": "backdrop_frames",
    "nms_conf_thr": "nms_confidence_threshold",
    "nms_backdrop_iou_thr": "backdrop_iou_threshold",
    "nms_class_iou_thr": "class_iou_threshold",
    "with_cats": "class_aware",
    "match_metric": "match_metric",
    "max_distance": "max_distance",
    "fps": "fps",
}
Frame = tuple[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def golden_frames(sequence: int, config: str) -> list[tuple[Frame, np.ndarray]]:
    """Each frame of a sequence, and the identities that the reference gave."""
    data = np.load(GOLDENS / "association.npz")
    columns = [data[f"s{sequence}_{name}"] for name in ("boxes", "scores", "labels", "embeds", f"ids_{config}")]
    ends = np.cumsum(data[f"s{sequence}_count"])
    frames = []
    for frame_id, start, end in zip(data[f"s{sequence}_frame_id"], np.r_[0, ends], ends, strict=False):
        boxes, scores, labels, embeddings, ids = (column[start:end] for column in columns)
        frames.append(((int(frame_id), boxes, scores, labels, embeddings), ids))
    return frames


def reference_associator(config: str, **overrides: object) -> Associator:
    settings = dict(CONFIGS[config])
    is_tao = settings.pop("type") == "MasaTaoTracker"
    if is_tao:
        settings.pop("with_cats")
    options = {OPTION_OF[name]: value for name, value in settings.items()}
    return Associator("tao" if is_tao else "bdd", **{**options, **overrides})


def run(associator: Associator, frames: list[Frame]) -> list[np.ndarray]:
    return [associator.update(boxes, scores, labels, embeds, index) for index, boxes, scores, labels, embeds in frames]


@pytest.mark.parametrize("sequence", range(4))
@pytest.mark.parametrize("config", CONFIGS)
def test_goldens(config: str, sequence: int) -> None:
    """Every identity of the reference, which prunes after matching and returns early on an empty frame."""
    golden = golden_frames(sequence, config)
    for (frame, expected), ids in zip(golden, run(reference_associator(config), [f for f, _ in golden]), strict=True):
        np.testing.assert_array_equal(ids, expected, err_msg=f"frame {frame[0]}")


@pytest.mark.parametrize(("preset", "config"), [("demo", "tao_demo"), ("tao", "tao_bench"), ("bdd", "bdd")])
def test_presets_are_the_reference_without_overrides(preset: str, config: str) -> None:
    golden = golden_frames(3, config)
    for (_, expected), ids in zip(golden, run(Associator(preset), [f for f, _ in golden]), strict=True):
        np.testing.assert_array_equal(ids, expected)


@pytest.mark.parametrize("config", CONFIGS)
def test_prune_before_matching_equals_the_reference_without_gaps(config: str) -> None:
    """With frames counted 0, 1, 2, ... and none empty, both ways of pruning give the same identities."""
    full = [f for f, _ in golden_frames(2, config) if len(f[1])]
    frames = [(index, *frame[1:]) for index, frame in enumerate(full)]
    after = run(reference_associator(config, prune_before_matching=False), frames)
    before = run(reference_associator(config, prune_before_matching=True), frames)
    for one, other in zip(after, before, strict=True):
        np.testing.assert_array_equal(one, other)


def one(seed: int, index: int, score: float = 0.9, label: int = 0, box: tuple = (10, 10, 50, 90)) -> Frame:
    """A frame with one detection whose embedding is that of object ``seed``."""
    embedding = np.random.default_rng(seed).standard_normal((1, 32)) * 2
    return index, np.array([box], np.float32), np.array([score]), np.array([label]), embedding


def empty(index: int) -> Frame:
    return index, np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), np.zeros((0, 32))


@pytest.mark.parametrize("preset", ["tao", "demo", "bdd"])
def test_a_stale_track_after_empty_frames(preset: str) -> None:
    """The reference takes a track that is long forgotten, since it prunes only in frames that have detections."""
    frames = [one(1, 0), *[empty(i) for i in range(1, 40)], one(1, 40)]
    assert run(Associator(preset), frames)[-1].tolist() == [0]
    assert run(Associator(preset, prune_before_matching=True), frames)[-1].tolist() == [1]


def test_memory_ends_after_memory_frames() -> None:
    """A track is taken up to memory_frames later, and not one frame after, with both kinds of pruning."""
    for way in (True, False):
        other = [one(2, i, box=(300, 10, 340, 90)) for i in range(1, 30)]
        for gap, expected in ((5, 0), (6, 2)):
            frames = [one(1, 0), *other[: gap - 1], one(1, gap)]
            options = {"memory_frames": 5, "prune_before_matching": way, "match_metric": "cosine"}
            ids = run(Associator("tao", **options), frames)
            assert ids[-1].tolist() == [expected], (way, gap)


def test_a_track_lives_is_lost_and_found() -> None:
    frames = [one(1, 0), one(1, 1), one(2, 2), one(1, 3), one(2, 4)]
    assert [ids.tolist() for ids in run(Associator("appearance", match_metric="cosine"), frames)] == [
        [0],
        [0],
        [1],
        [0],
        [1],
    ]


def test_alone_with_one_track_bisoftmax_says_yes() -> None:
    """Known weakness of the measure: both softmaxes over one number are 1, so only the cosine can object."""
    assert run(Associator("tao"), [one(1, 0), one(1, 1)])[1].tolist() == [0]
    opposite = (*one(1, 1)[:4], -one(1, 1)[4])
    assert run(Associator("tao"), [one(1, 0), opposite])[1].tolist() == [1]
    assert run(Associator("bdd"), [one(1, 0), opposite])[1].tolist() == [0]


def test_reset_forgets_and_counts_anew() -> None:
    associator = Associator("appearance")
    run(associator, [one(1, 0), one(2, 1)])
    associator.reset()
    assert associator.update(*one(3, 0)[1:], 0).tolist() == [0]
    associator.reset()
    assert associator.update(*one(1, 0)[1:3], np.zeros(1, int), np.ones((1, 7)), 0).tolist() == [0]


def test_two_side_by_side_share_nothing() -> None:
    golden = [f for f, _ in golden_frames(0, "bdd")]
    alone = run(Associator("bdd"), golden)
    first, second = Associator("bdd"), Associator("bdd")
    for frame, other, expected in zip(golden, [f for f, _ in golden_frames(1, "bdd")], alone, strict=True):
        second.update(*other[1:], other[0])
        np.testing.assert_array_equal(first.update(*frame[1:], frame[0]), expected)


def test_first_id() -> None:
    assert run(Associator("tao", first_id=1000, match_metric="cosine"), [one(1, 0), one(2, 1)])[1].tolist() == [1001]


@pytest.mark.parametrize("preset", ["tao", "demo", "bdd", "appearance"])
@pytest.mark.parametrize("assignment", ["greedy", "hungarian"])
def test_permuting_detections_permutes_identities(preset: str, assignment: str) -> None:
    """The identities' numbers follow the order of scores, so even they do not depend on the order of rows."""
    rng = np.random.default_rng(0)
    given, permuted = Associator(preset, assignment=assignment), Associator(preset, assignment=assignment)
    for (index, *arrays), _ in golden_frames(2, "bdd"):
        order = rng.permutation(len(arrays[0]))
        ids = given.update(*arrays, index)
        np.testing.assert_array_equal(permuted.update(*(a[order] for a in arrays), index), ids[order])


@pytest.mark.parametrize("preset", ["tao", "demo", "bdd", "appearance"])
@pytest.mark.parametrize("assignment", ["greedy", "hungarian"])
def test_an_identity_is_given_once_a_frame(preset: str, assignment: str) -> None:
    associator = Associator(preset, assignment=assignment, match_score_threshold=0.0)
    rng = np.random.default_rng(1)
    for index in range(30):
        embeddings = rng.standard_normal((40, 8)) * 0.1
        ids = associator.update(rng.uniform(0, 500, (40, 4)), rng.uniform(0, 1, 40), np.zeros(40), embeddings, index)
        given = ids[ids >= 0]
        assert len(given) == len(set(given.tolist()))


def test_scores_decide_who_starts_and_who_is_matched() -> None:
    options = {"track_activation_threshold": 0.6, "object_score_threshold": 0.3}
    frames = [one(1, 0, 0.5), one(1, 1, 0.7), one(1, 2, 0.4), one(1, 3, 0.2)]
    assert [i.tolist() for i in run(Associator("appearance", **options), frames)] == [[-1], [0], [0], [-1]]


def test_class_aware() -> None:
    frames = [one(1, 0, label=0), one(1, 1, label=1)]
    assert run(Associator("appearance"), frames)[1].tolist() == [0]
    assert run(Associator("appearance", class_aware=True), frames)[1].tolist() == [1]


def test_distance_gate() -> None:
    frames = [one(1, 0), one(1, 1, box=(900, 10, 940, 90))]
    assert run(Associator("appearance"), frames)[1].tolist() == [0]
    assert run(Associator("appearance", max_distance=100), frames)[1].tolist() == [1]
    later = [one(1, 0), one(1, 30, box=(900, 10, 940, 90))]  # the radius has grown by e^6
    assert run(Associator("appearance", max_distance=100), later)[1].tolist() == [0]


def test_distractor_nms_across_and_within_classes() -> None:
    boxes = np.array([[0, 0, 100, 100], [5, 0, 105, 100]], np.float32)
    arguments = boxes, np.array([0.9, 0.4]), np.array([0, 1]), np.eye(2, 32), 0
    assert Associator("appearance").update(*arguments).tolist() == [0, -1]
    assert Associator("appearance", distractor_nms="intra").update(*arguments).tolist() == [0, 1]
    assert Associator("appearance", distractor_iou_threshold=None).update(*arguments).tolist() == [0, 1]


def test_a_backdrop_keeps_a_similar_detection_from_a_track() -> None:
    """The weak detection of frame 1 looks somewhat like the track; as a backdrop it catches its own kind in frame 2."""
    near, far = np.zeros((1, 32)), np.zeros((1, 32))
    near[0, 0], far[0, :2] = 4, (1.2, 4)
    box, label = np.array([[10, 10, 50, 90.0]]), np.zeros(1, int)
    for frames, expected in ((1, -1), (0, 0)):
        options = {"nms_confidence_threshold": None, "track_activation_threshold": 0.8, "backdrop_frames": frames}
        associator = Associator("bdd", **options)
        associator.update(box, np.array([0.9]), label, near, 0)
        associator.update(box, np.array([0.2]), label, far, 1)
        ids = associator.update(box, np.array([0.5]), label, far, 2)
        assert ids.tolist() == [expected]  # without the backdrop: a softmax over one column is 1


def test_no_detection_and_one_detection() -> None:
    associator = Associator("bdd")
    assert associator.update(*empty(0)[1:], 0).shape == (0,)
    assert associator.update([], [], [], [], 1).shape == (0,)
    assert associator.update(*one(1, 2)[1:], 2).dtype == np.int64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": np.zeros((2, 5))}, r"boxes must be \(N, 4\) xyxy pixels, got \(2, 5\)"),
        ({"scores": np.ones(3)}, r"scores must be \(2,\).*got \(3,\)"),
        ({"labels": np.ones((2, 1))}, r"labels must be \(2,\)"),
        ({"labels": np.array([0.5, 1])}, "labels must be whole numbers"),
        ({"embeddings": np.ones((3, 32))}, r"embeddings must be \(2, D\).*got \(3, 32\)"),
        ({"embeddings": np.ones((2, 8))}, r"embeddings must be \(2, 32\) as in the frames before"),
        ({"boxes": np.array([[0, 0, 1, 1], [0, np.nan, 1, 1]])}, "boxes must be finite.*row 1"),
        ({"scores": np.array([np.inf, 1])}, "scores must be finite.*row 0"),
        ({"embeddings": np.full((2, 32), np.nan)}, "embeddings must be finite"),
        ({"frame_index": 0}, "frame_index must grow.*got 0 after 0"),
    ],
)
def test_bad_arguments(change: dict[str, object], message: str) -> None:
    associator = Associator("tao")
    associator.update(*one(1, 0)[1:], 0)
    good = {"boxes": np.array([[0, 0, 9, 9], [20, 0, 29, 9]]), "scores": np.ones(2), "labels": np.zeros(2, int)}
    good |= {"embeddings": np.ones((2, 32)), "frame_index": 1}
    with pytest.raises(InputError, match=message):
        associator.update(**{**good, **change})
    assert associator.update(**good).shape == (2,)  # what was refused has left nothing behind


def test_options_may_be_numpy_numbers() -> None:
    options = options_of("tao", memory_frames=np.int64(3), match_score_threshold=np.float32(0.5))
    assert options.memory_frames == 3


@pytest.mark.parametrize(
    ("preset", "overrides", "message"),
    [
        ("toa", {}, "unknown preset 'toa': did you mean 'tao'"),
        ("tao", {"memory_frame": 3}, "unknown option 'memory_frame': did you mean 'memory_frames'"),
        ("tao", {"match_metric": "cosin"}, "unknown match_metric 'cosin': did you mean 'cosine'"),
        ("tao", {"assignment": "optimal"}, "unknown assignment"),
        ("tao", {"embedding_momentum": 1.5}, r"embedding_momentum must be in 0..1, got 1.5"),
        ("tao", {"memory_frames": -1}, "memory_frames must be a whole number"),
        ("tao", {"memory_frames": 2.5}, "memory_frames must be a whole number"),
        ("tao", {"match_score_threshold": "0.5"}, "match_score_threshold must be a finite number"),
        ("tao", {"match_score_threshold": float("nan")}, "match_score_threshold must be a finite number"),
        ("tao", {"match_score_threshold": None}, "match_score_threshold must be a finite number"),
        ("tao", {"match_score_threshold": -0.1}, "match_score_threshold must be 0 or more"),
        ("tao", {"max_distance": -5}, "max_distance must be 0 or more"),
        ("tao", {"fps": 0}, "fps must be above 0"),
        ("tao", {"class_aware": 1}, "class_aware must be True or False"),
        ("tao", {"backdrop_frames": 1}, "needs a backdrop_iou_threshold"),
    ],
)
def test_bad_options(preset: str, overrides: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        options_of(preset, **overrides)


@pytest.mark.parametrize(
    ("given", "default", "appearance"),
    [
        ({"max_age": 30}, r"memory_seconds=1\.0 \(30 frames at 30 a second\)", "memory_frames=30$"),
        ({"max_age": 30, "fps": 15}, r"memory_seconds=2\.0 \(30 frames at 15", "memory_frames=30$"),
        ({"max_age": 0}, r"memory_seconds, above 0: one frame is memory_seconds=0\.03333", "memory_frames=0$"),
        ({"max_age": "long"}, "use memory_seconds, in seconds", "use memory_frames, in frames"),
        ({"max_time_lost": 15}, r"memory_seconds=0\.5", "memory_frames=15$"),
        ({"hit_counter_max": 15}, r"memory_seconds=0\.5", "memory_frames=15$"),
        ({"track_buffer": 60, "fps": 10}, r"memory_seconds=2\.0 \(60 frames at 30", "memory_frames=60$"),
        ({"lost_track_buffer": 30}, r"memory_seconds=1\.0", "memory_frames=30$"),
        ({"min_hits": 1}, r"use sure_score=0\.0", "starts a track with its first detection"),
        ({"min_hits": 3}, r"use confirm_odds=5\.5: .* after 3 detections of score 0\.9", "there is no such option"),
        ({"n_init": "x"}, "use confirm_odds, the sum of", "there is no such option"),
        ({"minimum_consecutive_frames": 2}, r"use confirm_odds=3\.3", "there is no such option"),
        ({"frame_rate": 25}, "use fps=25$", "use fps=25$"),
        ({"track_thresh": 0.5}, r"track_activation_threshold=0\.6 and high_score_threshold=0\.5", r"threshold=0\.6$"),
        ({"track_high_thresh": 0.25}, r"high_score_threshold=0\.25", r"track_activation_threshold=0\.25"),
        ({"track_low_thresh": 0.1}, r"object_score_threshold=0\.1", r"object_score_threshold=0\.1"),
        ({"new_track_thresh": 0.25}, r"track_activation_threshold=0\.25", r"track_activation_threshold=0\.25"),
        ({"new_track_thresh": 25}, r"a detection score in 0\.\.1, got 25", r"a detection score in 0\.\.1, got 25"),
        ({"match_thresh": 0.8}, "no limit of IoU here.*match_odds", "use match_score_threshold"),
        ({"minimum_matching_threshold": 0.8}, "no limit of IoU here.*match_odds", "use match_score_threshold"),
        ({"max_cosine_distance": 0.3}, "appearance_weight", "use match_score_threshold"),
        ({"with_reid": True}, "use use_appearance=True", "always uses appearance"),
        ({"nn_budget": 8}, "use views=8", "use views=8"),
        ({"gmc_method": "sof"}, "camera_motion=True", "camera_motion=True"),
        ({"reid_weights": "osnet.pt"}, "MasaTracker.model.", "MasaTracker.model."),
        ({"delta_t": 3}, "no such option; leave it out", "no such option; leave it out"),
        ({"memory_frames": 90}, r"memory_seconds=3\.0", None),
        ({"memory_seconds": 2}, None, "memory_frames=60 "),
        ({"max_age": 30, "min_hits": 3}, r"'max_age' .*memory_seconds=1\.0.*; option 'min_hits' .*confirm_odds", None),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_options_of_other_trackers(given: dict, default: str | None, appearance: str | None) -> None:
    for preset, message in (("default", default), ("appearance", appearance)):
        if message is not None:
            with pytest.raises(InputError, match=message) as caught:
                any_options_of(preset, **given)
            assert "is another tracker's" in str(caught.value)


def test_every_name_of_another_tracker_is_explained_with_an_option_of_ours() -> None:
    for preset in PRESETS:
        known = {field.name for field in fields(PRESETS[preset])}
        for name in set(_NAMES) - known:
            for value in (1, 0.5, "text", None, -3, 10**400, True):
                with pytest.raises(InputError, match=f"option '{name}' is another tracker's") as caught:
                    any_options_of(preset, **{name: value})
                assert set(re.findall(r"use (\w+)=", str(caught.value))) <= known
    assert not known & (set(_NAMES) - {"memory_frames", "memory_seconds"})


@pytest.mark.parametrize("hits", [1, 2, 3, 5])
@pytest.mark.parametrize("start", [0.7, 0.3])
def test_min_hits_is_converted_to_what_it_means(hits: int, start: float) -> None:
    """A detection of score .9 frame after frame gets its identity at the frame that was asked for."""
    with pytest.raises(InputError) as caught:
        any_options_of("default", min_hits=hits, track_activation_threshold=start)
    name, value = re.search(r"use (\w+)=([\d.]+)", str(caught.value)).groups()
    associator = FusedAssociator(track_activation_threshold=start, **{name: float(value)})
    arguments = np.array([[50, 50, 90, 130]]), np.array([0.9]), np.zeros(1, int), np.ones((1, 8))
    # The first frame of a video comes after no other, so its detections have their identity at once.
    associator.update(*(array[:0] for array in arguments), 0, size=(640, 480))
    got = [int(associator.update(*arguments, frame, size=(640, 480))[0]) for frame in range(1, 7)]
    assert [identity >= 0 for identity in got] == [frame >= hits for frame in range(1, 7)]


FRONT, BACK, OTHER = np.eye(3, 8, dtype=np.float32) * 8


def seen(tracker: Associator, frame: int, *embeddings: np.ndarray) -> list[int]:
    """Identities of detections side by side."""
    boxes = np.array([[100 * i, 0, 100 * i + 50, 90] for i in range(len(embeddings))], np.float32)
    count = len(embeddings)
    return tracker.update(boxes, np.ones(count), np.zeros(count, int), np.stack(embeddings), frame).tolist()


def test_an_object_is_recognised_from_a_side_that_it_showed_long_ago() -> None:
    """It turns round, stays so for long, and comes back as it first was; a running mean has forgotten that."""
    turning = [FRONT, FRONT + BACK, BACK, BACK, BACK, BACK, BACK, BACK]
    for views, known in ((6, True), (1, False)):
        tracker = Associator("appearance", views=views, embedding_momentum=0.8, match_score_threshold=0.6)
        lives = [seen(tracker, frame, look, OTHER) for frame, look in enumerate(turning)]
        assert lives == [[0, 1]] * len(turning)
        assert (seen(tracker, 20, FRONT, OTHER) == [0, 1]) is known


def test_views_are_forgotten_with_their_track() -> None:
    tracker = Associator("appearance", views=3, memory_frames=5)
    assert seen(tracker, 0, FRONT, OTHER) == [0, 1]
    assert seen(tracker, 5, OTHER) == [1]
    assert seen(tracker, 6, BACK, FRONT, OTHER) == [2, 3, 1]  # the first row is gone, the second has moved up
    assert seen(tracker, 7, OTHER, FRONT, BACK) == [1, 3, 2]


def test_views_need_one_or_more_and_no_backdrops() -> None:
    with pytest.raises(InputError, match="views must be a whole number of 1 or more, got 0"):
        Associator("appearance", views=0)
    with pytest.raises(InputError, match="views must be 1 where backdrops are kept, got 4: set backdrop_frames=0"):
        Associator("bdd", views=4)
