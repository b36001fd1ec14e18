"""Models are data: every spec says the truth, no module compares names, and a model of one's own works by its name."""

from __future__ import annotations

import ast
import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch
from official_recipe import official_keys
from safetensors.torch import load_file, save_file
from torch import nn

import masa_track
from masa_track import registry
from masa_track.association import AppearancePrior
from masa_track.cli.main import main
from masa_track.cli.models import install, state_of, table
from masa_track.errors import InputError
from masa_track.registry import (
    OWN,
    HubFile,
    ModelSpec,
    PartOf,
    Preprocessing,
    build_model,
    list_models,
    models_with,
    register_model,
    spec_of,
    told_by,
)

ROOT = Path(__file__).resolve().parents[1]
SPECS = [spec for spec in list_models() if spec.builder.startswith("masa_track.")]  # not those of other tests
NAMES = {spec.name for spec in SPECS}
FRAME = np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)
BOXES = np.array([[5, 5, 40, 50], [30, 10, 85, 55]], np.float32)
INPUT = Preprocessing((10, 20, 30), (2, 2, 2), 64)


class Net(nn.Module):
    """The least that a network needs: the mean colour of a box, of a map at stride 8."""

    dimension = 3

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1, bias=False)
        self.norm = nn.BatchNorm2d(3)
        self.scale = scale

    def backbone_maps(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [nn.functional.avg_pool2d(self.norm(self.conv(images)), 8)]

    def adapt(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        return maps

    def pyramid(self, images: torch.Tensor) -> list[torch.Tensor]:
        return self.adapt(self.backbone_maps(images))

    def embed(self, levels: list[torch.Tensor], boxes: list[torch.Tensor]) -> torch.Tensor:
        from torchvision.ops import roi_align

        return roi_align(levels[0], boxes, 1, 1 / 8).flatten(1) * self.scale


@pytest.fixture(autouse=True)
def _models_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_MODELS", {spec.name: spec for spec in SPECS})


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """Weights of :class:`Net`, which do not say whose they are."""
    torch.manual_seed(0)
    network = Net()
    network.norm.running_mean.normal_()
    save_file({k: v for k, v in network.state_dict().items() if v.ndim}, tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def mine(**facts: object) -> ModelSpec:
    return ModelSpec("mine", f"{__name__}:Net", preprocessing=INPUT, **facts)  # type: ignore[arg-type]


# --- the specs of the package


@pytest.mark.parametrize("name", ["nano", "nano-untrained"])
def test_what_is_said_of_shipped_weights_is_true(name: str) -> None:
    spec = spec_of(name)
    assert isinstance(spec.weights, Path)
    content = spec.weights.read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (spec.size, spec.sha256)
    model = masa_track.load(name, device="cpu")
    assert model.dimension == spec.dimension
    assert (OWN in spec.detectors) == model.finds_boxes
    assert (spec.prior is not None) == (model.prior is not None)


@pytest.mark.parametrize("name", sorted(spec.name for spec in SPECS if spec.signature))
def test_what_is_said_of_official_weights_is_true(name: str) -> None:
    """The size is that of the tensors, float32, counters int64; the signature is of this model alone."""
    spec, keys = spec_of(name), official_keys(name)
    assert spec.size == sum((8 if key.endswith("num_batches_tracked") else 4) * prod(s) for key, s in keys.items())
    assert told_by(keys) is spec
    for key, _ in spec.signature:
        assert told_by({k: v for k, v in keys.items() if k != key}) is None


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(NAMES - {"sam-vith"}))
def test_a_network_is_what_its_spec_says(name: str) -> None:
    spec, network = spec_of(name), build_model(name)
    assert network.dimension == spec.dimension
    assert (OWN in spec.detectors) == hasattr(network, "detect")
    assert bool(spec.signature) == hasattr(network, "load_official_state_dict")
    assert spec.preprocessing is not None
    for fact, value in vars(spec.preprocessing).items():
        assert getattr(network, fact) == value


def test_specs_know_their_relatives() -> None:
    for spec in list_models():
        assert spec.summary
        assert spec.source
        assert spec.part_of is None or spec.part_of.model in NAMES
    assert models_with(registry.GROUNDING_DINO) == ["gdino-swinb"]
    assert "nano-untrained" not in models_with(OWN)


def test_the_page_of_all_models_says_the_same() -> None:
    lines = (ROOT / "docs" / "models" / "all.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    assert [row[0].strip("`") for row in rows] == [spec.name for spec in SPECS]
    for spec, row in zip(SPECS, rows, strict=True):
        assert row[1] == f"{spec.size / 1e6:,.0f} MB" + (", shipped" if spec.is_shipped else "")
        assert row[2:5] == [spec.licence, f"`[{spec.needs}]`" if spec.needs else "", f"{spec.dimension:,}"]


def names_compared(tree: ast.AST) -> list[int]:
    """Lines that compare with a model's name, look at its prefix, or are keyed by it."""
    families = {name.split("-")[0] for name in NAMES}
    known = NAMES | families | {f"{family}-" for family in families}
    lines = []
    for node in ast.walk(tree):
        texts: list[ast.AST] = []
        if isinstance(node, ast.Compare):
            texts = [node.left, *node.comparators]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            texts = list(node.args) if node.func.attr in ("startswith", "endswith", "removeprefix") else []
        elif isinstance(node, ast.Dict):
            texts = [key for key in node.keys if key is not None]
        elif isinstance(node, ast.match_case):
            texts = [node.pattern]
        found = {n.value for text in texts for n in ast.walk(text) if isinstance(n, ast.Constant)}
        if any(isinstance(value, str) and value in known for value in found):
            lines.append(getattr(node, "lineno", 0))
    return lines


def test_no_module_branches_on_a_models_name() -> None:
    tests = ('n.startswith("nano")', 'n.startswith(("sam-", "x"))', 'n == "r50"', 'n in ("sam-vitb", y)', '{"nano": 1}')
    for code in tests:
        assert names_compared(ast.parse(code)), code
    assert not names_compared(ast.parse('f("nano"); x = "r50"; d = {"name": "nano"}; name == "nanometre"'))
    for path in sorted((ROOT / "masa_track").rglob("*.py")):
        if path.name != "registry.py":
            assert not names_compared(ast.parse(path.read_text())), path


def test_the_registry_builds_nothing_when_it_is_imported() -> None:
    code = "import sys, masa_track; masa_track.list_models(); print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "False False", done.stderr


# --- a model of one's own


def test_a_registered_model_loads_by_its_name(net: Path) -> None:
    with pytest.raises(InputError, match="unknown model 'mine'"):
        masa_track.load("mine", checkpoint=net)
    register_model(mine())
    model = masa_track.load("mine", device="cpu", checkpoint=net)
    network = Net().eval()
    network.load_state_dict(load_file(net), strict=False)
    INPUT.set_on(network)
    expected = masa_track.encoders.embedder.Embedder(network, "plain", "cpu").embed(FRAME, BOXES)
    np.testing.assert_allclose(model.embed(FRAME, BOXES), expected, rtol=1e-5)
    assert (model.name, model.prior) == ("mine", None)
    tracker = masa_track.MasaTracker(model)
    assert tracker.model is model


def test_a_pth_of_ones_own_and_one_that_does_not_fit(net: Path, tmp_path: Path) -> None:
    register_model(mine())
    tensors = load_file(net)
    torch.save({"state_dict": tensors}, tmp_path / "net.pth")
    by_pth = masa_track.load("mine", "cpu", tmp_path / "net.pth").embed(FRAME, BOXES)
    np.testing.assert_array_equal(by_pth, masa_track.load("mine", "cpu", net).embed(FRAME, BOXES))
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"other\.pth does not fit the model 'mine' \(it looks like a torchvision"):
        masa_track.load("mine", "cpu", tmp_path / "other.pth")


def test_a_file_that_says_its_model_and_its_options(net: Path, tmp_path: Path) -> None:
    tensors = load_file(net)
    path = tmp_path / "said.safetensors"
    save_file(tensors, path, {"model": "mine", "options": '{"scale": 2}'})
    with pytest.raises(InputError, match="holds no known 'model'"):
        masa_track.load(path)
    register_model(mine())
    plain = masa_track.load("mine", "cpu", net).embed(FRAME, BOXES)
    np.testing.assert_allclose(masa_track.load(path, "cpu").embed(FRAME, BOXES), 2 * plain, rtol=1e-6)


def test_weights_prior_and_checksum_of_a_registered_file(net: Path, tmp_path: Path) -> None:
    register_model(mine())
    with pytest.raises(InputError, match="model 'mine' comes without weights: give its file as checkpoint"):
        masa_track.load("mine", "cpu")
    prior = AppearancePrior((0.2, 0.1), ((0.5, 0.1),) * 5, "mine", 3)
    prior.save(tmp_path / "elsewhere.json")
    digest = hashlib.sha256(net.read_bytes()).hexdigest()
    register_model(mine(weights=net, sha256=digest, prior=tmp_path / "elsewhere.json"), replace=True)
    assert masa_track.load("mine", "cpu").prior == prior
    assert masa_track.load("mine", "cpu", checkpoint=net).prior is None  # other weights, for all that is known
    replace(prior, model="nano").save(tmp_path / "elsewhere.json")
    with pytest.raises(InputError, match="one for model 'nano' and a model of model 'mine'"):
        masa_track.load("mine", "cpu")
    register_model(mine(weights=net, sha256="0" * 64), replace=True)
    with pytest.raises(InputError, match=r"net\.safetensors is not the file of 'mine' that is registered"):
        masa_track.load("mine", "cpu")
    register_model(mine(weights=tmp_path / "none.safetensors"), replace=True)
    with pytest.raises(InputError, match=r"the weights of 'mine' are missing: there is no .*none\.safetensors"):
        masa_track.load("mine", "cpu")


def test_norms_are_folded_if_the_spec_says_so(net: Path) -> None:
    register_model(mine())
    model = masa_track.load("mine", "cpu", net)
    assert isinstance(model.network.norm, nn.BatchNorm2d)
    register_model(mine(fold=True), replace=True)
    folded = masa_track.load("mine", "cpu", net)
    assert isinstance(folded.network.norm, nn.Identity)
    np.testing.assert_allclose(folded.embed(FRAME, BOXES), model.embed(FRAME, BOXES), rtol=1e-4)


def test_a_part_of_another_models_file(tmp_path: Path, net: Path) -> None:
    whole = {f"body.{key}": value for key, value in load_file(net).items()}
    save_file({**whole, "head.weight": torch.zeros(1)}, tmp_path / "whole.safetensors", {"model": "whole"})
    spec = mine(weights=tmp_path / "whole.safetensors", part_of=PartOf("whole", "body.", ""))
    register_model(spec)
    expected = (register_model(mine(), replace=True), masa_track.load("mine", "cpu", net).embed(FRAME, BOXES))[1]
    register_model(spec, replace=True)
    np.testing.assert_array_equal(masa_track.load("mine", "cpu").embed(FRAME, BOXES), expected)


def test_names_and_old_names() -> None:
    register_model(mine(old_names=("earlier",)))
    register_model(mine(old_names=("earlier",)))  # the same again
    assert spec_of("earlier").name == "mine"
    assert isinstance(build_model("earlier"), Net)
    for spec in (mine(size=1), replace(mine(), name="nano"), replace(mine(), name="earlier")):
        with pytest.raises(InputError, match=r"is already that of the model .*replace=True"):
            register_model(spec)
    with pytest.raises(InputError, match="'r50' is already that of the model 'r50'"):
        register_model(mine(old_names=("r50",)), replace=True)
    register_model(mine(size=1), replace=True)
    assert spec_of("mine").size == 1
    with pytest.raises(InputError, match="unknown model 'min': did you mean 'mine'"):
        spec_of("min")


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"name": "a b"}, "name must be letters, digits"),
        ({"name": "mine.safetensors"}, "not that of a file"),
        ({"builder": "my_package.net.Net"}, r"builder of 'mine' must be 'module:function', got 'my_package\.net\.Net'"),
        ({"needs": "samm"}, "unknown extra in needs of 'mine' 'samm': did you mean 'sam'"),
        ({"detectors": ("owl",)}, "unknown detector in detectors of 'mine' 'owl': did you mean 'own'"),
        ({"sha256": "abc"}, "sha256 of 'mine' must be 64 hexadecimal digits"),
    ],
)
def test_a_spec_that_cannot_be(facts: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ModelSpec(**{"name": "mine", "builder": "a:b", **facts})  # type: ignore[arg-type]


def test_a_builder_that_cannot_be_imported() -> None:
    for builder, message in (
        ("no_such_package.net:Net", "there is no module 'no_such_package'"),
        ("test_registry:Nett", "test_registry has no 'Nett'"),
    ):
        register_model(replace(mine(), builder=builder), replace=True)
        with pytest.raises(InputError, match=message):
            build_model("mine")
    register_model(mine(), replace=True)
    with pytest.raises(InputError, match=r"model 'mine' cannot be built with \['depth'\]"):
        build_model("mine", depth=3)


def test_training_takes_a_registered_model_and_a_dotted_builder() -> None:
    from masa_track.training.model import make_network

    register_model(replace(mine(), builder="training_recipe:TinyNetwork", preprocessing=None))
    assert type(make_network("mine")).__name__ == type(make_network({"type": "mine"})).__name__ == "TinyNetwork"
    assert type(make_network({"type": "training_recipe:TinyNetwork", "heads": False})).__name__ == "TinyNetwork"


# --- masa-track models


def test_the_table_has_a_line_for_each_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [spec.name for spec in list_models()]
    assert head.split() == ["name", "size", "licence", "needs", "weights", "D", "prior", "boxes", "note"]
    assert lines[0].split()[:9] == ["nano", "9", "MB", "Apache-2.0", "-", "shipped", "2,096", "known", "own"]


def test_json_is_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    found = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert found.keys() >= NAMES
    nano = found["nano"]
    assert (nano["weights"], nano["size_bytes"], nano["needs"], nano["install"]) == ("shipped", 8_557_340, None, None)
    assert Path(nano["file"]).is_file()
    assert Path(nano["prior"]).is_file()
    assert (found["r50"]["repository"], found["r50"]["file"]) == ("dereksiyuanli/masa", "masa_r50.pth")


def test_states_of_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert state_of(spec_of("r50")).weights == "to fetch"
    snapshot = tmp_path / "models--dereksiyuanli--masa" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "masa_r50.pth").touch()
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    assert state_of(spec_of("r50")).weights == "cached"
    assert state_of(mine()).weights == "none"
    assert state_of(mine(weights=tmp_path / "none.pth")).weights == "missing"


def test_what_is_missing_is_named_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segment_anything", None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    fetched = replace(mine(), weights=HubFile("someone/else", "net.pth"), needs="sam")
    state = state_of(fetched)
    assert install(state) == 'pip install ".[sam,hub]"'
    assert 'pip install ".[sam,hub]"' in table([state])
    assert install(state_of(mine(needs="sam"))) == 'pip install ".[sam]"'
    assert install(state_of(mine())) is None
