"""Whether a model with its published weights gives the results that others have measured: `masa-track verify`.

:data:`PROOFS` is a table: each :class:`Proof` names a model, data, a function that runs the model on them, and a file
of expected results. What is common to all is here: the comparison, the verdict and the report.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

from masa_track import __version__
from masa_track.checks import finite_number
from masa_track.errors import InputError, unknown_name
from masa_track.registry import HubFile, check_installed, resolve, spec_of

COMBINED = "COMBINED"  # the results of all items together
_LIBRARIES = ("numpy", "scipy", "opencv-python", "supervision", "torch", "torchvision", "trackeval", "motmetrics")

Results = Mapping[str, Mapping[str, float]]  # by item (a sequence or clip, or COMBINED) and measure


@dataclass(frozen=True)
class Proof:
    """What can be verified of a model.

    Attributes:
        name: for ``masa-track verify NAME``.
        model: its name; its weights are downloaded where no file is given.
        data: what the data are and where they are published, for people who lack them.
        expected: a json file, see :func:`read_expected`.
        check: ``module:function`` of (data folder, items, settings); raises InputError where data are not complete.
        run: ``module:function`` of (loaded model, data folder, items, settings), which gives the :data:`Results`.
        load: ``module:function`` of (model, checkpoint, device, settings), which gives :class:`Loaded`.
        needs: extras that it needs, of :data:`masa_track.registry.EXTRAS`.
    """

    name: str
    model: str
    data: str
    expected: Path
    check: str
    run: str
    needs: tuple[str, ...] = ()
    load: str = "masa_track.evaluation.proofs:load_embedder"


@dataclass(frozen=True)
class Loaded:
    """A model of a proof.

    Attributes:
        model: as its ``run`` takes it.
        device: where it runs.
        file: its weights.
        origin: from where they are.
        sha256: that they should have; None where it is not known.
    """

    model: Any
    device: Any
    file: Path
    origin: str
    sha256: str | None = None


PROOFS: dict[str, Proof] = {
    proof.name: proof
    for proof in (
        Proof(
            "r50",
            model="r50",
            data="the training sequences of MOT15 (https://motchallenge.net/data/MOT15), the folder train of the zip",
            expected=Path(__file__).parent / "proof_r50_mot15.json",
            check="masa_track.evaluation.proof_mot15:check",
            run="masa_track.evaluation.proof_mot15:run",
            needs=("torch", "eval"),
        ),
        Proof(
            "edgetam",
            model="edgetam",
            data="DAVIS 2017 in 480p (https://davischallenge.org), the folder with JPEGImages and Annotations",
            expected=Path(__file__).parent / "proof_edgetam_davis.json",
            check="masa_track.pipeline.proof_vos:check",
            run="masa_track.pipeline.proof_vos:run",
            needs=("masklets",),
            load="masa_track.pipeline.proof_vos:load",
        ),
        Proof(
            "sam2.1-hiera-tiny",
            model="sam2.1-hiera-tiny",
            data="SA-V test (https://ai.meta.com/datasets/segment-anything-video-downloads), the folder sav_test",
            expected=Path(__file__).parent / "proof_sam2.1_hiera_tiny_sav.json",
            check="masa_track.pipeline.proof_vos:check",
            run="masa_track.pipeline.proof_vos:run",
            needs=("masklets",),
            load="masa_track.pipeline.proof_vos:load",
        ),
    )
}


@dataclass(frozen=True)
class Expected:
    """Results that were measured before.

    Attributes:
        origin: whose they are, and how they were measured.
        settings: what the run must be done with, e.g. the preset of the tracker.
        tolerance: by measure, the difference that counts as equal for an item.
        combined_tolerance: the same for :data:`COMBINED`.
        results: by item and measure; measures without a tolerance are reported only.
        sha256: of the checkpoint that gave them; None where it is not known.
    """

    origin: str
    settings: Mapping[str, Any]
    tolerance: Mapping[str, float]
    combined_tolerance: Mapping[str, float]
    results: Results
    sha256: str | None = None

    @property
    def items(self) -> list[str]:
        """All items but :data:`COMBINED`."""
        return [name for name in self.results if name != COMBINED]


def find_proof(name: str) -> Proof:
    """The proof of that name. Raises InputError if there is none."""
    if name not in PROOFS:
        raise unknown_name("proof", name, PROOFS)
    return PROOFS[name]


def read_expected(path: str | Path) -> Expected:
    """Reads expected results; the json report of an earlier run is of the same form.

    Raises:
        InputError: the file is missing, no json, or lacks a field.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"expected results {path} cannot be read ({error}): give a json report of verify") from error
    try:
        results = {str(item): dict(values) for item, values in content["results"].items()}
        each, combined = dict(content["tolerance"]["each"]), dict(content["tolerance"]["combined"])
        origin, settings = str(content["origin"]), dict(content["settings"])
        sha256 = content.get("checkpoint", {}).get("sha256")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"expected results {path} must have the fields origin, settings, tolerance and results of a json report of "
            f"verify, but {error} is missing or of another form"
        ) from error
    numbers = [value for values in (*results.values(), each, combined) for value in values.values()]
    if not results or not all(finite_number(value) for value in numbers):
        raise InputError(f"expected results {path}: results must be finite numbers by sequence and measure")
    return Expected(origin, settings, each, combined, results, sha256)


@dataclass(frozen=True)
class Row:
    """One measure of one item.

    Attributes:
        item: a sequence or clip, or :data:`COMBINED`.
        measure: e.g. ``idf1``.
        expected: what was measured before.
        found: what was measured now.
        tolerance: the largest difference that counts as equal; None: reported only.
    """

    item: str
    measure: str
    expected: float
    found: float
    tolerance: float | None

    @property
    def difference(self) -> float:
        """Found minus expected."""
        return self.found - self.expected

    @property
    def is_equal(self) -> bool:
        """Whether the difference is within the tolerance."""
        return self.tolerance is None or abs(self.difference) <= self.tolerance + 1e-9


@dataclass(frozen=True)
class Outcome:
    """What a verification found.

    Attributes:
        proof: what was verified.
        expected: what it was compared with.
        rows: all comparisons.
        found: the results.
        facts: settings, versions, device, checkpoint and time, ready for json.
    """

    proof: Proof
    expected: Expected
    rows: Sequence[Row]
    found: Results
    facts: Mapping[str, Any]

    @property
    def passed(self) -> bool:
        """Whether all rows are equal within their tolerance."""
        return all(row.is_equal for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """The report, ready for json. :func:`read_expected` reads it."""
        expected = self.expected
        return {
            "proof": self.proof.name,
            "verdict": "pass" if self.passed else "fail",
            "origin": f"masa-track verify {self.proof.name}, {self.facts['date']}, on {self.facts['device']}",
            "compared_with": expected.origin,
            **self.facts,
            "settings": dict(expected.settings),
            "tolerance": {"each": dict(expected.tolerance), "combined": dict(expected.combined_tolerance)},
            "results": {item: dict(values) for item, values in self.found.items()},
            "comparison": [{**vars(row), "difference": row.difference, "equal": row.is_equal} for row in self.rows],
        }

    def as_markdown(self) -> str:
        """The report as text with a table."""
        outside = [row for row in self.rows if not row.is_equal]
        verdict = "PASS" if self.passed else f"FAIL: {len(outside)} of {len(self.rows)} comparisons are outside"
        checkpoint, together = self.facts["checkpoint"], _listed(self.expected.combined_tolerance)
        lines = [
            f"# masa-track verify {self.proof.name}: {verdict}",
            "",
            f"- compared with: {self.expected.origin}",
            f"- model: {self.proof.model}, {checkpoint['file']} ({checkpoint['origin']})",
            f"- SHA-256 of the checkpoint: {checkpoint['sha256']} ({checkpoint['sha256_is']})",
            f"- settings: {_listed(self.expected.settings)}",
            f"- device: {self.facts['device']}, {self.facts['precision']}",
            f"- time: {self.facts['seconds']:.0f} s, {self.facts['date']}",
            f"- versions: masa-track {self.facts['masa_track']}, {_listed(self.facts['versions'])}",
            f"- tolerance: {_listed(self.expected.tolerance)}; all together {together}",
            "",
            "| sequence | measure | known | here | difference | |",
            "|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {row.item} | {row.measure} | {_number(row.expected)} | {_number(row.found)} | "
            f"{'+' if row.difference > 0 else ''}{_number(row.difference)} | {_judged(row)} |"
            for row in self.rows
        ]
        return "\n".join(lines) + "\n"


def _judged(row: Row) -> str:
    return "" if row.tolerance is None else "equal" if row.is_equal else "DIFFERENT"


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def verify(
    proof: Proof,
    data: str | Path,
    checkpoint: str | Path | None = None,
    expected: str | Path | None = None,
    items: Sequence[str] | None = None,
    device: str | None = None,
) -> Outcome:
    """Runs a proof. Its data are checked before the checkpoint is downloaded.

    Args:
        proof: what to verify.
        data: the folder of the data.
        checkpoint: a file of weights in place of the download.
        expected: a json file in place of the proof's own.
        items: some of the expected items; None: all. :data:`COMBINED` is compared only if all are run.
        device: for the model; None takes a GPU if there is one.

    Raises:
        InputError: data are missing, the checkpoint is not of the model, or a library is not installed.
    """
    wanted = read_expected(proof.expected if expected is None else expected)
    chosen = list(wanted.items if items is None else dict.fromkeys(items))
    for item in chosen:
        if item not in wanted.items:
            raise unknown_name("item in --sequences", item, wanted.items)
    if not _compared(wanted, chosen):
        raise InputError(
            f"--sequences must be left out: what is known of {proof.name} are the scores of all "
            f"{len(wanted.items) or 'sequences'} together"
        )
    data = Path(data)
    try:
        cast(Callable[..., None], resolve(proof.check))(data, chosen, wanted.settings)
    except InputError as error:
        raise InputError(f"{error}. The data are {proof.data}") from error
    check_installed(*proof.needs, purpose=f"to verify {proof.name}")
    from masa_track.models.checkpoints import sha256

    started = time.perf_counter()
    loaded = cast(Callable[..., Loaded], resolve(proof.load))(proof.model, checkpoint, device, wanted.settings)
    digest = sha256(loaded.file)
    found: Results = cast(Callable[..., Results], resolve(proof.run))(loaded.model, data, chosen, wanted.settings)
    rows = compare(wanted, found, chosen)
    known = wanted.sha256 or loaded.sha256
    facts = {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "device": _device_name(loaded.device),
        "precision": "float32",
        "checkpoint": {
            "file": loaded.file.name,
            "origin": "given by --checkpoint" if checkpoint is not None else loaded.origin,
            "sha256": digest,
            "sha256_is": "not known before" if known is None else "as known" if known == digest else "another one",
        },
        "seconds": round(time.perf_counter() - started, 1),
        "masa_track": __version__,
        "versions": _versions(),
    }
    return Outcome(proof, wanted, rows, found, facts)


def compare(expected: Expected, found: Results, items: Sequence[str]) -> list[Row]:
    """A row for each measure of each of the items, and of :data:`COMBINED` if these are all.

    Raises:
        InputError: the results lack a measure that is expected.
    """
    rows = []
    for item in _compared(expected, items):
        tolerance = expected.combined_tolerance if item == COMBINED else expected.tolerance
        for measure, value in expected.results[item].items():
            if measure not in found[item]:
                raise InputError(f"the expected results of {item} have {measure!r}, which this proof does not measure")
            rows.append(Row(item, measure, value, found[item][measure], tolerance.get(measure)))
    return rows


def _compared(expected: Expected, items: Sequence[str]) -> list[str]:
    """Of the items, and of :data:`COMBINED` if these are all, those with measures."""
    complete = set(items) == set(expected.items) and COMBINED in expected.results
    return [item for item in [*items, *([COMBINED] if complete else [])] if expected.results[item]]


def load_embedder(name: str, checkpoint: str | Path | None, device: str | None, settings: Mapping[str, Any]) -> Loaded:
    """A model of the registry. Raises InputError if the checkpoint is not of it."""
    from masa_track.encoders.loading import load

    model = load(name, device=device, checkpoint=checkpoint)
    spec = spec_of(name)
    origin = f"https://huggingface.co/{spec.weights.repository}" if isinstance(spec.weights, HubFile) else "shipped"
    return Loaded(model, model.device, cast(Path, model.checkpoint), origin, spec.sha256)


def _device_name(device: Any) -> str:
    name = str(device)
    torch = sys.modules.get("torch")
    if torch is not None and name.startswith("cuda") and torch.cuda.is_available():
        return f"{name} ({torch.cuda.get_device_name(device)})"
    return f"{name} ({platform.machine()})"


def _versions() -> dict[str, str]:
    found = {"Python": platform.python_version(), "system": platform.platform()}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found
