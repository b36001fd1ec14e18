"""`masa-track models`: what `--model` can name, what each model needs, and whether its weights are here."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from typing import Any

from masa_track.registry import HubFile, ModelSpec, is_installed, list_models

_DESCRIPTION = """\
Lists the models that --model can name, what each needs, and whether its weights are on this machine. A
model computes the embeddings of boxes. Nothing is downloaded."""

_EPILOG = """\
columns
  size      of the weights; of the authors' models, of their tensors in float32
  licence   of the weights
  needs     the extra that the network needs: 'installed', or the command, to be run in a checkout of masa-track
  weights   shipped: with the package; cached: downloaded earlier; to fetch: downloaded when first used;
            missing: a registered file that is not there; none: give --checkpoint
  D         numbers in an embedding
  prior     known: the model brings the calibration of its cosines; otherwise the preset default learns it from the
            video
  boxes     detectors on the model's backbone: own (--detector own), grounding-dino (--text)

examples:
  masa-track models
  masa-track models --json > models.json
  masa-track track VIDEO --model r50 --out runs/street

A model of your own: masa_track.register_model(masa_track.ModelSpec("mine", builder="my_package.net:Net")), then
masa_track.load("mine", checkpoint="net.safetensors"). It is known in the process that registered it."""


def add_parser(commands: Any) -> None:
    """Adds ``models`` to the command's subparsers."""
    parser = commands.add_parser(
        "models",
        help="list the models, what they need, and which are here",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print a list of objects, for programs")
    parser.set_defaults(run=run)


@dataclass(frozen=True)
class ModelState:
    """A model on this machine.

    Attributes:
        spec: the model.
        weights: ``shipped``, ``cached``, ``to fetch``, ``missing`` or ``none``.
        needs: the extra that the network needs; None for no extra.
        to_install: extras that are missing: of the network, and ``hub`` where weights are still to be fetched.
    """

    spec: ModelSpec
    weights: str
    needs: str | None
    to_install: tuple[str, ...]


def state_of(spec: ModelSpec) -> ModelState:
    """Looks for a model's weights and libraries; imports and downloads nothing of the model."""
    is_here = spec.local_weights() is not None
    if isinstance(spec.weights, HubFile):
        weights = "cached" if is_here else "to fetch"
    elif spec.weights is None:
        weights = "none"
    else:
        weights = "shipped" if is_here else "missing"
    needs = spec.needs or (None if spec.onnx is not None else "torch")
    wanted = [*([needs] if needs else []), *(["hub"] if weights == "to fetch" else [])]
    return ModelState(spec, weights, needs, tuple(extra for extra in wanted if not is_installed(extra)))


def run(args: argparse.Namespace) -> int:
    """Prints the table or the JSON. Returns 0."""
    states = [state_of(spec) for spec in list_models()]
    if args.json:
        print(json.dumps([as_dict(state) for state in states], indent=2))
    else:
        print(table(states))
    return 0


def as_dict(state: ModelState) -> dict[str, Any]:
    """A model for ``--json``: texts, numbers, lists, true, false and null."""
    spec = state.spec
    hub = spec.weights if isinstance(spec.weights, HubFile) else None
    return {
        "name": spec.name,
        "summary": spec.summary,
        "size_bytes": spec.size,
        "licence": spec.licence,
        "source": spec.source,
        "needs": state.needs,
        "install": install(state),
        "weights": state.weights,
        "repository": hub.repository if hub else None,
        "file": hub.file if hub else None if spec.weights is None else str(spec.weights),
        "sha256": spec.sha256,
        "dimension": spec.dimension,
        "prior": None if spec.prior is None else str(spec.prior),
        "detectors": list(spec.detectors),
        "old_names": list(spec.old_names),
    }


def install(state: ModelState) -> str | None:
    """The command that installs all that a model lacks; None where nothing is."""
    return f'pip install ".[{",".join(state.to_install)}]"' if state.to_install else None


def table(states: list[ModelState]) -> str:
    """The models as lines of aligned columns."""
    rows = [("name", "size", "licence", "needs", "weights", "D", "prior", "boxes", "note")]
    for state in states:
        spec = state.spec
        needs = "-" if state.needs is None else f"{state.needs}: installed"
        rows.append(
            (
                spec.name,
                "?" if spec.size is None else f"{spec.size / 1e6:,.0f} MB",
                spec.licence,
                install(state) or needs,
                state.weights,
                "?" if spec.dimension is None else f"{spec.dimension:,}",
                "learned" if spec.prior is None else "known",
                ", ".join(spec.detectors) or "-",
                spec.summary,
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)
