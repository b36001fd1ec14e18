"""Classes by text: things, parts and stuff; and their phrases in captions."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from masa_track.detectors.phrases import caption_groups, phrase_tokens, split_phrases
from masa_track.errors import InputError
from masa_track.parts.hierarchy import Node, parse_hierarchy, read_hierarchy, warn_of_similar_phrases


def phrases(text: str, stuff: str = "") -> list[tuple[str, int]]:
    return [(phrase.text, phrase.label) for phrase in parse_hierarchy(text, stuff).phrases]


def test_levels_synonyms_thresholds_and_stuff() -> None:
    hierarchy = parse_hierarchy("Person:0.4[head[ear], left  hand:.2]. car=automobile[wheel]", "road, sky=heaven:0.5")
    assert hierarchy.nodes == (
        Node("person", "thing", -1, (), 0.4),
        Node("head", "part", 0),
        Node("ear", "part", 1),
        Node("left hand", "part", 0, (), 0.2),
        Node("car", "thing", -1, ("automobile",)),
        Node("wheel", "part", 4),
        Node("road", "stuff"),
        Node("sky", "stuff", -1, ("heaven",), 0.5),
    )
    assert [(phrase.text, phrase.label) for phrase in hierarchy.phrases] == [
        *(("person", 0), ("person head", 1), ("person head ear", 2), ("person left hand", 3)),
        *(("car", 4), ("automobile", 4), ("car wheel", 5), ("automobile wheel", 5)),
        *(("road", 6), ("sky", 7), ("heaven", 7)),
    ]
    assert hierarchy.title(2) == "person head ear"
    assert hierarchy.path(2) == (0, 1, 2)
    assert hierarchy.parts(0) == (1, 3)
    assert hierarchy.labels("stuff") == (6, 7)


@pytest.mark.parametrize("text", ["a yellow minion. a dog", " dog.cat . ", "a red, old car. dog", "dog. dog. cat"])
def test_without_brackets_the_classes_are_those_of_a_text_detector(text: str) -> None:
    assert phrases(text) == [(phrase, i) for i, phrase in enumerate(split_phrases(text))]


def test_one_part_name_in_two_things_is_two_classes() -> None:
    """Also where a thing has two words, and where a part is named like another thing."""
    assert phrases("traffic light[lens]. dog[lens]. lens") == [
        *(("traffic light", 0), ("traffic light lens", 1), ("dog", 2), ("dog lens", 3), ("lens", 4)),
    ]


@pytest.mark.parametrize(
    ("text", "stuff", "message"),
    [
        ("person[head", "", r'"\[" is not closed: add "\]"; got \'person\[head\', see column 7'),
        ("a. b[c[d]", "", r"not closed.*column 5"),
        ("person]", "", r"has no \"\[\" before it: remove it.*column 7"),
        ("person[head]].", "", r"before it: remove it.*column 13"),
        ("person[]", "", r"a name must stand before \"\]\".*column 8"),
        ("[head]", "", r"a name must stand before \"\[\".*column 1"),
        ("person[head,]", "", r"a name must stand before \"\]\""),
        ("person[head] dog", "", r"a separator must follow \"\]\""),
        ("person[head], dog", "", r"a separator must follow \"\]\".*column 13"),
        ("person[head. hand]", "", r"parts are separated by commas.*column 12"),
        ("person[head[person]]", "", r"not have the name.*got 'person' as a part of 'person'"),
        ("car=auto[auto]", "", r"not have the name.*got 'auto' as a part of 'car'"),
        ("person. road", "sky, road", r"thing or stuff, got 'road' as both: take it out of text or of stuff"),
        ("car=auto. bus=auto", "", r"one class, got 'auto' for 'car' and 'bus'"),
        ("person[head]. person[hand]", "", r"one class, got 'person'.*name each class once"),
        ("person[head]. person head", "", r"one class, got 'person head'"),
        ("person", "sky, sky", r"one class, got 'sky'"),
        ("person:1.5", "", r"threshold of 'person' must be a number in 0..1, got 1.5"),
        ("car=", "", r"a name must be words"),
        ("person", "sky.road", r"a name must be words without .*'sky.road'"),
        ("person", "sky,", r"a name must be words"),
        (" . ", "", r"text must name something"),
        ("a[" * 40 + "b" + "]" * 40, "", r"not have the name"),
        ("".join(f"a{i}[" for i in range(40)) + "b" + "]" * 40, "", r"at most 32 levels"),
        ("a0=b=c=d[a1=b1=c1[" + "a2=b2=c2[a3=b3=c3[a4=b4=c4[a5=b5=c5[a6=b6=c6[a7=b7=c7]]]]]]]", "", r"at most 10000"),
    ],
)
def test_texts_that_are_refused(text: str, stuff: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_hierarchy(text, stuff)


def test_a_yaml_file_says_the_same(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    path = tmp_path / "zoo.yaml"
    path.write_text(
        """
things:
  person: {threshold: 0.4, parts: {head: [ear], left hand: {threshold: 0.2}}}
  car: {synonyms: [automobile], parts: [wheel]}
  dog:
stuff: [road, sky]
"""
    )
    same = "person:0.4[head[ear], left hand:0.2]. car=automobile[wheel]. dog"
    assert read_hierarchy(path) == parse_hierarchy(same, "road, sky")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("thing: [a]", "unknown key of text .*'thing': did you mean 'things'"),
        ("things: {a: {part: [b]}}", "unknown key of 'a' .*'part': did you mean 'parts'"),
        ("things: [yes]", "a name must be text, got True: put it in quotes"),
        ("things: {a: {threshold: high}}", "threshold of 'a' must be a number in 0..1, got 'high'"),
        ("things: {a: {threshold: .nan}}", "threshold of 'a' must be a number in 0..1"),
        ("things: {a: {synonyms: b}}", "synonyms of 'a' must be a list of names, got 'b'"),
        ("things: {a: 3}", "must be a list of names, or names with their parts, got 3"),
        ("things: [st. bernard]", "a name must be words without"),
        ("stuff: {sky: [cloud]}", "stuff has no parts, got parts of 'sky'"),
        ("[a, b]", "must have things and stuff"),
        ("things: [a", "cannot be read as yaml"),
        ("things: !!python/object/apply:os.getcwd []", "cannot be read as yaml"),
        ("things: {a: &x {parts: {b: *x}}}", "at most 32 levels"),
        ("things: {a: [b], a: [c]}", "each key once, got 'a' again in line 1"),
        ("things:\n  a:\n  d: &x {parts: {b: null, b: null}}\n  c: *x", "each key once, got 'b' again in line 3"),
        ("things: []", "must name something"),
    ],
)
def test_yaml_files_that_are_refused(tmp_path: Path, content: str, message: str) -> None:
    pytest.importorskip("yaml")
    path = tmp_path / "zoo.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_hierarchy(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_hierarchy(tmp_path / "missing.yaml")


def test_captions_hold_as_many_phrases_as_fit() -> None:
    """2,000 phrases of 1 to 9 tokens, 64 a caption: nothing is lost, no caption is too long, none could take more."""
    lengths = np.random.default_rng(0).integers(1, 10, 2000).tolist()
    names = [str(i) for i in range(2000)]
    groups = caption_groups(names, lengths, 64)
    assert [i for start, end in groups for i in range(start, end)] == list(range(2000))
    sizes = [2 + sum(length + 1 for length in lengths[start:end]) for start, end in groups]
    assert max(sizes) <= 64
    assert all(size + lengths[end] + 1 > 64 for size, (_, end) in zip(sizes[:-1], groups[:-1], strict=True))


def test_a_phrase_longer_than_a_caption_is_refused() -> None:
    assert caption_groups(["a", "b"], [61, 61], 64) == [(0, 1), (1, 2)]
    with pytest.raises(InputError, match="at most 61 tokens, got 'b'"):
        caption_groups(["a", "b"], [61, 62], 64)


def test_tokens_are_found_by_place_where_a_name_begins_another() -> None:
    names = [phrase.text for phrase in parse_hierarchy("person[head]. head").phrases]
    assert names == ["person", "person head", "head"]
    caption = "person. person head. head."
    words = [(0, 6), (6, 7), (8, 14), (15, 19), (19, 20), (21, 25), (25, 26)]
    assert [caption[a:b] for a, b in words] == ["person", ".", "person", "head", ".", "head", "."]
    assert phrase_tokens(names, [(0, 0), *words, (0, 0)]) == [[1], [3, 4], [6]]


def test_warns_of_phrases_of_two_classes_with_nearly_the_same_embedding() -> None:
    """Synonyms of one class may be as similar as they like."""
    hierarchy = parse_hierarchy("car=automobile. truck. dog")
    apart = np.array([[3.0, 0, 0], [3, 0, 0], [0, 1, 0], [0, 0, 1]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(warn_of_similar_phrases(hierarchy, apart)[1], [1, 1, 0, 0])
    near = apart.copy()
    near[2] = [1, 0.1, 0]
    with pytest.warns(
        UserWarning, match=r"same embedding; .*\ncar: 1.00 1.00 1.00\nautomobile: .*\ntruck: 1.00 1.00 1.00$"
    ):
        warn_of_similar_phrases(hierarchy, near)
    for wrong in (apart[:3], apart * np.nan, apart * 0, apart[0]):
        with pytest.raises(InputError, match=r"embeddings must be \(4, D\)"):
            warn_of_similar_phrases(hierarchy, wrong)
