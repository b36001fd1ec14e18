"""The loss of concepts against plain loops over numbers."""

from __future__ import annotations

from itertools import permutations
from math import exp, log

import pytest

torch = pytest.importorskip("torch")

from masa_track.errors import InputError  # noqa: E402
from masa_track.training.concept_losses import ConceptWeights, Instances, Predicted, concept_loss  # noqa: E402


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


def focal(x: float, label: float) -> float:
    p = sigmoid(x) if label else 1 - sigmoid(x)
    return (0.25 if label else 0.75) * (1 - p) ** 2 * -log(p)


def giou(a: list[float], b: list[float]) -> float:
    def area(x1: float, y1: float, x2: float, y2: float) -> float:
        return max(x2 - x1, 0) * max(y2 - y1, 0)

    shared = area(max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))
    union = area(*a) + area(*b) - shared
    around = area(min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))
    return shared / union - (around - union) / around


def plain(predicted: Predicted, truth: list[Instances], weights: ConceptWeights) -> dict[str, float]:
    """The loss by loops; the assignment is the best of all."""
    sums = dict.fromkeys(("presence", "score", "box", "giou", "mask", "dice"), 0.0)
    count = max(sum(len(one.boxes) for one in truth), 1)
    for place, one in enumerate(truth):
        there = len(one.boxes) > 0
        x = predicted.presence[place].item()
        sums["presence"] += -log(sigmoid(x) if there else 1 - sigmoid(x)) / len(truth)
        if not there:
            continue
        scores, boxes, true = predicted.scores[place].tolist(), predicted.boxes[place].tolist(), one.boxes.tolist()

        def cost(order: tuple[int, ...]) -> float:
            total = 0.0
            for n, q in enumerate(order):
                total -= weights.score * sigmoid(scores[q]) + weights.giou * giou(boxes[q], true[n])  # noqa: B023
                total += weights.box * sum(abs(a - b) for a, b in zip(boxes[q], true[n], strict=True))  # noqa: B023
            return total

        best = min(permutations(range(len(scores)), len(true)), key=cost)
        sums["score"] += sum(focal(score, float(q in best)) for q, score in enumerate(scores)) / count
        for n, q in enumerate(best):
            sums["box"] += sum(abs(a - b) for a, b in zip(boxes[q], true[n], strict=True)) / count
            sums["giou"] += (1 - giou(boxes[q], true[n])) / count
            if predicted.masks is not None and one.masks is not None:
                pixels = list(
                    zip(predicted.masks[place, q].flatten().tolist(), one.masks[n].flatten().tolist(), strict=True)
                )
                sums["mask"] += sum(focal(x, g) for x, g in pixels) / len(pixels) / count
                both = 2 * sum(sigmoid(x) * g for x, g in pixels) + 1
                sums["dice"] += (1 - both / (sum(sigmoid(x) + g for x, g in pixels) + 1)) / count
    return sums | {"total": sum(getattr(weights, name) * value for name, value in sums.items())}


def random_boxes(generator: torch.Generator, *shape: int) -> torch.Tensor:
    low = torch.rand(*shape, 2, generator=generator, dtype=torch.float64) * 0.6
    return torch.cat((low, low + 0.05 + torch.rand(*shape, 2, generator=generator, dtype=torch.float64) * 0.3), dim=-1)


def case(seed: int, counts: list[int], masks: bool = True) -> tuple[Predicted, list[Instances]]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return (2 * torch.randn(*shape, generator=generator, dtype=torch.float64)).requires_grad_()

    batch = len(counts)
    boxes = random_boxes(generator, batch, 4).requires_grad_()
    predicted = Predicted(normal(batch), normal(batch, 4), boxes, normal(batch, 4, 3, 5) if masks else None)
    truth = []
    for n in counts:
        true = (torch.rand(n, 3, 5, generator=generator) > 0.5).double()
        truth.append(Instances(random_boxes(generator, n), true if masks else None))
    return predicted, truth


@pytest.mark.parametrize("counts", [[2, 0, 3], [0, 0], [4], [1, 1, 1, 0]])
@pytest.mark.parametrize("masks", [True, False])
def test_the_loss_is_that_of_plain_loops(counts: list[int], masks: bool) -> None:
    weights = ConceptWeights(presence=1.5, score=2.0, box=3.0, giou=0.7, mask=4.0, dice=0.9)
    for seed in range(5):
        predicted, truth = case(seed, counts, masks)
        found = {name: value.item() for name, value in concept_loss(predicted, truth, weights).items()}
        assert found == pytest.approx(plain(predicted, truth, weights), abs=1e-6)


def test_queries_learn_only_from_pictures_that_show_the_phrase() -> None:
    predicted, truth = case(0, [2, 0])
    concept_loss(predicted, truth)["total"].backward()
    assert predicted.masks is not None
    for values in (predicted.scores, predicted.boxes, predicted.masks):
        assert values.grad is not None
        assert values.grad[0].abs().sum() > 0
        assert values.grad[1].abs().sum() == 0
    assert predicted.presence.grad is not None
    assert (predicted.presence.grad != 0).all()


def test_all_have_a_gradient_where_no_picture_shows_the_phrase() -> None:
    predicted, truth = case(0, [0, 0])
    concept_loss(predicted, truth)["total"].backward()
    assert predicted.scores.grad is not None
    assert predicted.boxes.grad is not None
    assert not predicted.scores.grad.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, t: (Predicted(p.presence[:1], p.scores, p.boxes), t), "presence and boxes must be"),
        (lambda p, t: (p, t[:1]), "for each of 2 pictures, got 1"),
        (lambda p, t: (p, [t[0], Instances(torch.rand(5, 4))]), "at most 4 queries"),
        (lambda p, t: (p, [t[0], Instances(torch.rand(1, 4))]), "true masks must be .1, 3, 5.* got none"),
    ],
)
def test_shapes_are_checked(change: object, message: str) -> None:
    assert callable(change)
    predicted, truth = change(*case(0, [2, 1]))
    with pytest.raises(InputError, match=message):
        concept_loss(predicted, truth)
