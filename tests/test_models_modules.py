"""The official models' modules against slow plain code, and gradients through them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.swin_transformer import PatchMerging, ShiftedWindowAttention
from torchvision.ops import box_iou

from masa_track.models.box_coder import decode_boxes, encode_boxes
from masa_track.models.box_head import BoxHead, RoIHead
from masa_track.models.deform_conv import modulated_deform_conv, read_as
from masa_track.models.deform_fusion import DeformFusion
from masa_track.models.dyhead import DyHead, DynamicReLU
from masa_track.models.fpn import FPN
from masa_track.models.roi import roi_features, roi_levels
from masa_track.models.rpn import RPNHead, grid_anchors, grouped_nms
from masa_track.models.simple_fpn import SimpleFPN
from masa_track.models.swin import (
    SwinB,
    WindowAttention,
    from_windows,
    swin_body,
    swin_stages,
    to_windows,
    unfold_to_torchvision,
)
from masa_track.models.track_head import TrackHead

CHANNELS = 32  # the least that group norms of 16 and 32 groups take


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def randomise(module):
    """Weights that are not zero anywhere, small enough for offsets of about a pixel."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.1)
    return module.double().eval()


def pyramid_of(sizes, batch=1):
    return [torch.randn(batch, CHANNELS, h, w, dtype=torch.float64) for h, w in sizes]


def gradients_pass(module, inputs):
    """Every input and parameter gets a finite gradient that is not all zeros."""
    inputs = [x.requires_grad_() for x in inputs]
    outputs = module(inputs)
    sum((x * torch.randn_like(x)).sum() for x in outputs).backward()
    for name, tensor in [*enumerate(inputs), *module.named_parameters()]:
        assert tensor.grad is not None, name
        assert tensor.grad.isfinite().all(), name
        assert tensor.grad.abs().max() > 0, name


# ---- deformable convolution and the two heads made of it


def slow_sample(x, y0, x0):
    """The bilinear value (C,) of ``x`` (C, H, W) at one point, zeros outside."""
    value = torch.zeros(len(x), dtype=x.dtype)
    for y in (math.floor(y0), math.floor(y0) + 1):
        for column in (math.floor(x0), math.floor(x0) + 1):
            if 0 <= y < x.shape[1] and 0 <= column < x.shape[2]:
                value += x[:, y, column] * (1 - abs(y0 - y)) * (1 - abs(x0 - column))
    return value


def slow_deform_conv(x, offset, mask, weight, stride=1):
    """Offsets and masks are flat buffers of an image, read with the output's height and width."""
    height, width = -(-x.shape[2] // stride), -(-x.shape[3] // stride)
    out = torch.zeros(len(x), len(weight), height, width, dtype=x.dtype)
    for b in range(len(x)):
        flat, weights = offset[b].flatten(), mask[b].flatten()
        for i in range(height):
            for j in range(width):
                for tap in range(9):
                    at = i * width + j
                    y = i * stride - 1 + tap // 3 + float(flat[2 * tap * height * width + at])
                    column = j * stride - 1 + tap % 3 + float(flat[(2 * tap + 1) * height * width + at])
                    value = slow_sample(x[b], y, column) * weights[tap * height * width + at]
                    out[b, :, i, j] += weight[:, :, tap // 3, tap % 3] @ value
    return out


def slow_group_norm(x, norm):
    out = torch.empty_like(x)
    size = x.shape[1] // norm.num_groups
    for b in range(len(x)):
        for group in range(norm.num_groups):
            rows = slice(group * size, (group + 1) * size)
            part = x[b, rows]
            scaled = (part - part.mean()) / (part.var(unbiased=False) + norm.eps).sqrt()
            out[b, rows] = scaled * norm.weight[rows, None, None] + norm.bias[rows, None, None]
    return out


def slow_enlarge(x, height, width):
    """Bilinear with corners on corners."""
    out = torch.empty(*x.shape[:2], height, width, dtype=x.dtype)
    for i in range(height):
        for j in range(width):
            y = i * (x.shape[2] - 1) / (height - 1) if height > 1 else 0.0
            column = j * (x.shape[3] - 1) / (width - 1) if width > 1 else 0.0
            for b in range(len(x)):
                out[b, :, i, j] = slow_sample(x[b], y, column)
    return out


@pytest.mark.parametrize("stride", [1, 2])
def test_deform_conv_equals_loops(stride):
    x = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    height, width = -(-5 // stride), -(-7 // stride)
    offset = torch.randn(2, 18, height, width, dtype=torch.float64) * 3  # many taps fall outside
    mask = torch.rand(2, 9, height, width, dtype=torch.float64)
    weight = torch.randn(4, 3, 3, 3, dtype=torch.float64)
    want = slow_deform_conv(x, offset, mask, weight, stride)
    torch.testing.assert_close(modulated_deform_conv(x, offset, mask, weight, stride), want)
    learning = modulated_deform_conv(x, offset, mask, weight.requires_grad_(), stride)  # torchvision's operator
    torch.testing.assert_close(learning.detach(), want)


def test_deform_conv_far_outside_is_zero_in_both_ways(monkeypatch):
    monkeypatch.setattr("masa_track.models.deform_conv.ROWS_AT_ONCE", 4)  # in several parts, too
    x, mask = torch.randn(1, 3, 4, 5, dtype=torch.float64), torch.ones(1, 9, 4, 5, dtype=torch.float64)
    offset = torch.randn(1, 18, 4, 5, dtype=torch.float64) * 2
    offset[..., :2] *= 1e6
    offset[..., 0, 0] = float("inf")
    weight = torch.randn(2, 3, 3, 3, dtype=torch.float64)
    ours = modulated_deform_conv(x, offset, mask, weight)
    theirs = modulated_deform_conv(x, offset, mask, weight.requires_grad_()).detach()
    torch.testing.assert_close(ours, theirs)
    assert (ours[..., 0, 0] == 0).all()
    assert (ours[..., 2:] != 0).any()


@pytest.mark.slow
def test_deform_conv_gradients():
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    offset = (torch.randn(1, 18, 3, 4, dtype=torch.float64)).requires_grad_()
    mask = torch.rand(1, 9, 3, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(modulated_deform_conv, (x, offset, mask, weight))


def test_read_as_walks_the_memory():
    buffer = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5)
    view = read_as(buffer, 3, 2, 3)
    assert view.tolist() == [
        [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]], [[12, 13, 14], [15, 16, 17]]],
        [[[60, 61, 62], [63, 64, 65]], [[66, 67, 68], [69, 70, 71]], [[72, 73, 74], [75, 76, 77]]],
    ]
    strided = buffer.to(memory_format=torch.channels_last)  # the logical order counts, not this memory's
    assert torch.equal(read_as(strided, 3, 2, 3), view)


def slow_fusion_block(block, levels):
    outs = []
    for index, x in enumerate(levels):
        raw = block.spatial_conv_offset(x)
        parts = []
        for neighbour, conv, source, stride in (
            (0, block.spatial_conv_mid, index, 1),
            (1, block.spatial_conv_low, index - 1, 2),
            (2, block.spatial_conv_high, index + 1, 1),
        ):
            if not 0 <= source < len(levels):
                continue
            offset = raw[:, 18 * neighbour : 18 * neighbour + 18]
            mask = 1 / (1 + (-raw[:, 54 + 9 * neighbour : 63 + 9 * neighbour]).exp())
            part = slow_deform_conv(levels[source], offset, mask, conv.conv.weight, stride)
            part = slow_group_norm(part, conv.norm)
            parts.append(slow_enlarge(part, *x.shape[-2:]) if neighbour == 2 else part)
        outs.append(sum(parts) / len(parts))
    return outs


SIZES = [(7, 6), (4, 3), (2, 2)]  # odd ones, too


def test_deform_fusion_equals_loops():
    fusion = randomise(DeformFusion(CHANNELS, blocks=2))
    levels = pyramid_of(SIZES, batch=2)
    with torch.no_grad():
        want = levels
        for block in fusion.dyhead_blocks:
            want = slow_fusion_block(block, want)
        for ours, theirs in zip(fusion(levels), want, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_deform_fusion_gradients():
    gradients_pass(randomise(DeformFusion(CHANNELS, blocks=2)), pyramid_of(SIZES))


def test_fresh_deform_fusion_mixes_as_plain_convolutions():
    """Its offsets start at zero and its masks at one half; group norm undoes the half."""
    fusion = DeformFusion(CHANNELS, blocks=1).double().eval()
    block, levels = fusion.dyhead_blocks[0], pyramid_of([(6, 6)])
    conv = block.spatial_conv_mid
    with torch.no_grad():
        want = conv.norm(torch.conv2d(levels[0], conv.conv.weight / 2, padding=1))
        torch.testing.assert_close(fusion(levels)[0], want)


def slow_hard_sigmoid(x):
    return ((x + 3) / 6).clamp(0, 1)


def slow_dyhead_block(block, levels):
    def attention(x):
        conv = block.scale_attn_module[1]
        pooled = x.mean(dim=(2, 3))  # (B, C)
        return slow_hard_sigmoid((pooled @ conv.weight[0, :, 0, 0] + conv.bias).clamp(min=0))[:, None, None, None]

    outs = []
    for index, x in enumerate(levels):
        raw = block.spatial_conv_offset(x)
        offset, mask = raw[:, :18], 1 / (1 + (-raw[:, 18:]).exp())
        parts = []
        for conv, source, stride in (
            (block.spatial_conv_mid, index, 1),
            (block.spatial_conv_low, index - 1, 2),
            (block.spatial_conv_high, index + 1, 1),
        ):
            if not 0 <= source < len(levels):
                continue
            part = slow_group_norm(slow_deform_conv(levels[source], offset, mask, conv.conv.weight, stride), conv.norm)
            part = slow_enlarge(part, *x.shape[-2:]) if source > index else part
            parts.append(part * attention(part))
        outs.append(slow_dynamic_relu(block.task_attn_module, sum(parts) / len(parts)))
    return outs


def slow_dynamic_relu(module, x):
    out = torch.empty_like(x)
    channels = x.shape[1]
    for b in range(len(x)):
        pooled = x[b].mean(dim=(1, 2))
        hidden = (module.conv1.conv.weight[:, :, 0, 0] @ pooled + module.conv1.conv.bias).clamp(min=0)
        raw = slow_hard_sigmoid(module.conv2.conv.weight[:, :, 0, 0] @ hidden + module.conv2.conv.bias) - 0.5
        for c in range(channels):
            first = x[b, c] * (2 * raw[c] + 1) + raw[channels + c]
            second = x[b, c] * 2 * raw[2 * channels + c] + raw[3 * channels + c]
            out[b, c] = torch.maximum(first, second)
    return out


@pytest.mark.slow
def test_dyhead_equals_loops():
    head = randomise(DyHead(CHANNELS, blocks=2))
    levels = pyramid_of(SIZES, batch=2)
    with torch.no_grad():
        want = levels
        for block in head.dyhead_blocks:
            want = slow_dyhead_block(block, want)
        for ours, theirs in zip(head(levels), want, strict=True):
            torch.testing.assert_close(ours, theirs)


@pytest.mark.slow
def test_dyhead_gradients():
    gradients_pass(randomise(DyHead(CHANNELS, blocks=2)), pyramid_of(SIZES))


def test_dynamic_relu_gradients():
    module = randomise(DynamicReLU(4))
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, (x,))


# ---- pyramids


def slow_top_down(laterals):
    summed = [x.clone() for x in laterals]
    for index in range(len(summed) - 2, -1, -1):
        _, _, height, width = summed[index].shape
        above = summed[index + 1]
        for i in range(height):
            for j in range(width):
                summed[index][:, :, i, j] += above[:, :, i * above.shape[2] // height, j * above.shape[3] // width]
    return summed


def test_fpn_equals_loops():
    fpn = randomise(FPN((3, 5, 4), CHANNELS, levels=5))
    for module in fpn.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.running_mean)
    maps = [torch.randn(2, c, h, w).double() for c, h, w in ((3, 9, 7), (5, 5, 4), (4, 3, 2))]

    def plain(module, x):
        y = torch.conv2d(x, module.conv.weight, padding=module.conv.padding)
        norm = module.bn
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        return (y - norm.running_mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]

    with torch.no_grad():
        laterals = slow_top_down([plain(c, x) for c, x in zip(fpn.lateral_convs, maps, strict=True)])
        want = [plain(c, x) for c, x in zip(fpn.fpn_convs, laterals, strict=True)]
        want.append(want[-1][:, :, [0, 2]][:, :, :, [0]])
        want.append(want[-1][:, :, [0]])
        for ours, theirs in zip(fpn(maps), want, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_simple_fpn_equals_loops():
    fpn = randomise(SimpleFPN(6, CHANNELS))
    maps = [torch.randn(1, 6, 4, 3).double() for _ in range(4)]

    def twice(conv, x):
        out = torch.zeros(1, 6, x.shape[2] * 2, x.shape[3] * 2, dtype=x.dtype)
        for i in range(out.shape[2]):
            for j in range(out.shape[3]):
                out[0, :, i, j] = x[0, :, i // 2, j // 2] @ conv.weight[:, :, i % 2, j % 2] + conv.bias
        return out

    def norm(module, x):
        mean, var = x.mean(dim=1, keepdim=True), x.var(dim=1, keepdim=True, unbiased=False)
        return (x - mean) / (var + 1e-6).sqrt() * module.ln.weight[:, None, None] + module.ln.bias[:, None, None]

    with torch.no_grad():
        x = norm(fpn.fpn1[1], twice(fpn.fpn1[0], maps[0]))
        x = x * 0.5 * (1 + torch.erf(x / 2**0.5))
        scaled = [twice(fpn.fpn1[3], x), twice(fpn.fpn2[0], maps[1]), maps[2], torch.zeros(1, 6, 2, 1).double()]
        for i in range(2):
            scaled[3][:, :, i, 0] = maps[3][:, :, 2 * i : 2 * i + 2, :2].amax(dim=(2, 3))
        laterals = slow_top_down([c.conv(x) for c, x in zip(fpn.lateral_convs, scaled, strict=True)])
        want = [c.conv(x) for c, x in zip(fpn.fpn_convs, laterals, strict=True)]
        want.append(want[-1][:, :, :1])
        for ours, theirs in zip(fpn(maps), want, strict=True):
            torch.testing.assert_close(ours, theirs)


def test_pyramids_gradients():
    gradients_pass(randomise(SimpleFPN(6, CHANNELS)), [torch.randn(1, 6, 4, 4).double() for _ in range(4)])
    fpn = randomise(FPN((3, 5), CHANNELS))
    gradients_pass(fpn, [torch.randn(1, 3, 8, 8).double(), torch.randn(1, 5, 4, 4).double()])


# ---- boxes


def test_roi_levels_equal_the_formula():
    random = np.random.default_rng(0)
    corners = random.uniform(0, 500, (500, 2))
    boxes = np.concatenate([corners, corners + np.exp(random.uniform(-3, 7, (500, 2)))], axis=1)
    boxes[:4] = [[0, 0, 112, 112], [0, 0, 111.9, 111.9], [5, 5, 5, 5], [0, 0, 1e5, 1e5]]
    want = []
    for x1, y1, x2, y2 in boxes.astype(np.float32).tolist():
        side = math.sqrt((x2 - x1) * (y2 - y1))
        want.append(min(max(math.floor(math.log2(side / 56 + 1e-6)), 0), 3))
    assert roi_levels(torch.from_numpy(boxes).float(), 4).tolist() == want
    assert want[:4] == [1, 0, 0, 3]


def slow_roi(level, box, stride):
    """7 x 7 bins of the aligned box; as many samples a bin as it has pixels, rounded up."""
    x1, y1, x2, y2 = [float(v) / stride - 0.5 for v in box]
    rows, columns = math.ceil((y2 - y1) / 7), math.ceil((x2 - x1) / 7)
    out = torch.zeros(len(level), 7, 7, dtype=level.dtype)
    for i in range(7):
        for j in range(7):
            for r in range(rows):
                for c in range(columns):
                    y = y1 + (y2 - y1) / 7 * (i + (r + 0.5) / rows)
                    x = x1 + (x2 - x1) / 7 * (j + (c + 0.5) / columns)
                    if -1 <= y <= level.shape[1] and -1 <= x <= level.shape[2]:
                        y, x = min(max(y, 0), level.shape[1] - 1), min(max(x, 0), level.shape[2] - 1)
                        out[:, i, j] += slow_sample(level, y, x) / (rows * columns)
    return out


def test_roi_features_equal_loops():
    levels = [torch.randn(2, 3, 40 // 2**i, 50 // 2**i).double() for i in range(3)]
    boxes = [
        torch.tensor([[10.0, 20, 60, 70], [0, 0, 190, 150], [-30, -20, 20, 30], [7, 8, 7, 8]]).double(),
        torch.tensor([[100.0, 30, 260, 170], [3, 3, 9, 150]]).double(),
    ]
    got = roi_features(levels, boxes, (4, 8, 16))
    row = 0
    for image, own in enumerate(boxes):
        for box, index in zip(own, roi_levels(own, 3).tolist(), strict=True):
            want = slow_roi(levels[index][image], box, 4 * 2**index)
            torch.testing.assert_close(got[row], want, msg=f"box {box}")
            row += 1
    assert roi_features(levels, [torch.zeros(0, 4), torch.zeros(0, 4)], (4, 8)).shape == (0, 3, 7, 7)


def test_box_coder_equals_the_formula_and_its_inverse():
    random = np.random.default_rng(0)
    reference = random.uniform(0, 100, (50, 4))
    reference[:, 2:] += reference[:, :2] + 1
    deltas = random.normal(size=(50, 4)) * 3
    deltas[0, 2:] = 100  # clamped
    stds = (0.1, 0.2, 0.5, 2.0)
    want = []
    for (x1, y1, x2, y2), delta in zip(reference, deltas, strict=True):
        dx, dy, dw, dh = (float(d) * s for d, s in zip(delta, stds, strict=True))
        limit = abs(math.log(16 / 1000))
        w = (x2 - x1) * math.exp(min(max(dw, -limit), limit))
        h = (y2 - y1) * math.exp(min(max(dh, -limit), limit))
        x, y = (x1 + x2) / 2 + dx * (x2 - x1), (y1 + y2) / 2 + dy * (y2 - y1)
        want.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    given, moves = torch.from_numpy(reference), torch.from_numpy(deltas)
    got = decode_boxes(given, moves, stds)
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64))
    clipped = decode_boxes(given, moves, stds, (60, 80))
    torch.testing.assert_close(clipped, got.clamp(min=0).minimum(torch.tensor([80.0, 60, 80, 60]).double()))
    back = encode_boxes(given[1:], decode_boxes(given[1:], moves[1:] / 9, stds), stds)
    torch.testing.assert_close(back, moves[1:] / 9)


def test_box_coder_gradients():
    reference = torch.tensor([[0.0, 0, 10, 20], [5, 5, 8, 9]]).double().requires_grad_()
    deltas = torch.randn(2, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda r, d: decode_boxes(r, d, (0.1, 0.1, 0.2, 0.2), (12, 9)), (reference, deltas))


def test_grid_anchors_equal_loops():
    got = grid_anchors(2, 3, 16, torch.zeros(1).double())
    want = []
    for y in range(2):
        for x in range(3):
            for ratio in (0.5, 1.0, 2.0):
                w, h = 128 / math.sqrt(ratio), 128 * math.sqrt(ratio)
                want.append([16 * x - w / 2, 16 * y - h / 2, 16 * x + w / 2, 16 * y + h / 2])
    torch.testing.assert_close(got, torch.tensor(want).double())


def slow_nms(boxes, scores, groups, threshold):
    kept = []
    for row in sorted(range(len(boxes)), key=lambda r: -float(scores[r])):
        clear = (
            groups[row] != groups[other] or float(box_iou(boxes[row : row + 1], boxes[other : other + 1])) <= threshold
            for other in kept
        )
        if all(clear):
            kept.append(row)
    return kept


def test_grouped_nms_equals_loops():
    corners = torch.rand(120, 2).double() * 40
    boxes = torch.cat([corners, corners + 5 + torch.rand(120, 2).double() * 20], dim=1)
    scores, groups = torch.rand(120).double(), torch.randint(0, 3, (120,))
    got = grouped_nms(boxes, scores, groups, 0.4).tolist()
    assert got == slow_nms(boxes, scores, groups, 0.4)
    assert 10 < len(got) < 110
    assert grouped_nms(boxes[:0], scores[:0], groups[:0], 0.4).shape == (0,)


def test_proposals_equal_loops():
    head = randomise(RPNHead((8, 16), CHANNELS, per_level=20, max_proposals=15))
    levels = pyramid_of([(5, 6), (3, 3)], batch=2)
    sizes = [(40, 48), (30, 44)]
    with torch.no_grad():
        results = head.propose(levels, sizes)
        outputs = head(levels)
    for image, size in enumerate(sizes):
        boxes, scores, groups = [], [], []
        for group, (level, stride) in enumerate(zip(levels, (8, 16), strict=True)):
            anchors = grid_anchors(*level.shape[-2:], stride=stride, like=level.float())
            logits, deltas = outputs[group][0][image].float(), outputs[group][1][image].float()
            for row in sorted(range(len(logits)), key=lambda r: -float(logits[r]))[:20]:
                box = decode_boxes(anchors[row : row + 1], deltas[row : row + 1], image_size=size)[0]
                if box[2] > box[0] and box[3] > box[1]:
                    boxes.append(box)
                    scores.append(1 / (1 + math.exp(-float(logits[row]))))
                    groups.append(group)
        kept = slow_nms(torch.stack(boxes), scores, groups, 0.7)[:15]
        torch.testing.assert_close(results[image][0], torch.stack([boxes[k] for k in kept]))
        torch.testing.assert_close(results[image][1], torch.tensor([scores[k] for k in kept]))


def test_detections_equal_loops():
    head = RoIHead((8, 16), randomise(BoxHead(1, 1, CHANNELS, 16)), score_threshold=0.4, max_detections=6).eval()
    levels = pyramid_of([(8, 8), (4, 4)], batch=2)
    corners = torch.rand(2, 30, 2).double() * 40
    proposals = [torch.cat([c, c + 4 + torch.rand(30, 2).double() * 30], dim=1) for c in corners]
    with torch.no_grad():
        results = head.detect(levels, proposals, [(64, 64), (50, 60)])
        logits, deltas = head.bbox_head(roi_features(levels, proposals, (8, 16)))
    for image, size in enumerate([(64, 64), (50, 60)]):
        rows = slice(30 * image, 30 * image + 30)
        boxes = decode_boxes(proposals[image].float(), deltas[rows].float(), (0.1, 0.1, 0.2, 0.2), size)
        scores = [math.exp(a) / (math.exp(a) + math.exp(b)) for a, b in logits[rows].tolist()]
        good = [i for i, score in enumerate(scores) if score > 0.4]
        kept = slow_nms(boxes[good], [scores[g] for g in good], [0] * len(good), 0.5)[:6]
        assert kept
        torch.testing.assert_close(results[image][0], torch.stack([boxes[good[k]] for k in kept]))
        torch.testing.assert_close(results[image][1], torch.tensor([scores[good[k]] for k in kept]))
    empty = head.detect(levels, [torch.zeros(0, 4), torch.zeros(0, 4)], [(64, 64), (50, 60)])
    assert [tuple(b.shape) for b, _ in empty] == [(0, 4), (0, 4)]


def test_track_head_is_of_each_box_alone_and_differentiable():
    head = TrackHead((4, 8)).eval()
    levels = [torch.randn(2, 256, 16, 16, requires_grad=True), torch.randn(2, 256, 8, 8, requires_grad=True)]
    boxes = [torch.tensor([[3.0, 3, 30, 40], [0, 0, 60, 60]]), torch.tensor([[5.0, 6, 50, 20]])]
    together = head(levels, boxes)
    assert together.shape == (3, 256)
    alone = head([level[1:] for level in levels], boxes[1:])
    torch.testing.assert_close(together[2:], alone)
    swapped = head(levels, [boxes[0].flip(0), boxes[1]])
    torch.testing.assert_close(swapped, together[[1, 0, 2]])
    together.sum().backward()
    assert levels[0].grad.abs().max() > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


# ---- Swin


def test_windows_there_and_back():
    x = torch.arange(2 * 6 * 9 * 2).view(2, 6, 9, 2)
    windows = to_windows(x, 3)
    assert windows.shape == (12, 9, 2)
    assert torch.equal(windows[4].view(3, 3, 2), x[0, 3:6, 3:6])
    assert torch.equal(from_windows(windows, 3, 6, 9), x)


@pytest.mark.parametrize("shift", [0, 3])
def test_window_attention_equals_torchvision_on_larger_maps(shift):
    theirs = randomise(ShiftedWindowAttention(16, [7, 7], [shift, shift], 2))
    x = torch.randn(2, 15, 10, 16).double()
    want = theirs(x)
    theirs.__class__ = WindowAttention
    torch.testing.assert_close(theirs(x), want)


def test_window_attention_shifts_on_a_map_of_one_window():
    """Where torchvision does not: neighbours across the wrap must not see each other, so four regions stay apart."""
    attention = randomise(ShiftedWindowAttention(16, [6, 6], [3, 3], 2))
    attention.__class__ = WindowAttention
    x = torch.randn(1, 6, 6, 16).double()
    before = attention(x)
    changed = x.clone()
    changed[0, 0, 0] += 1
    moved = (attention(changed) - before).abs().amax(dim=-1)[0] > 1e-9
    want = torch.zeros(6, 6, dtype=torch.bool)
    want[:3, :3] = True
    assert torch.equal(moved, want)


def test_patch_merging_order_equals_unfold():
    ours = PatchMerging(4).double()
    weight = torch.randn(8, 16).double()
    scale, shift = torch.randn(16).double(), torch.randn(16).double()
    with torch.no_grad():
        ours.reduction.weight.copy_(unfold_to_torchvision(weight))
        ours.norm.weight.copy_(unfold_to_torchvision(scale))
        ours.norm.bias.copy_(unfold_to_torchvision(shift))
    x = torch.randn(2, 6, 4, 4).double()
    unfolded = nn.Unfold(2, stride=2)(x.permute(0, 3, 1, 2)).transpose(1, 2)  # (B, L, 16)
    want = nn.functional.layer_norm(unfolded, (16,), scale, shift) @ weight.T
    torch.testing.assert_close(ours(x).flatten(1, 2), want)


def test_swin_gradients_and_padding():
    body = swin_body(8, (1, 2), (1, 2), 3).double().eval()
    images = torch.randn(1, 3, 22, 30).double().requires_grad_()
    maps = swin_stages(body, images)
    assert [tuple(m.shape) for m in maps] == [(1, 6, 8, 8), (1, 3, 4, 16)]
    sum((m * torch.randn_like(m)).sum() for m in maps).backward()
    assert images.grad.abs().max() > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in body.parameters())
    assert SwinB.reduction == (8, 16, 32)
