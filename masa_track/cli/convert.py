"""`masa-track convert`: weights to a file for inference, safetensors or ONNX, with a card."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from masa_track.cli.arguments import path
from masa_track.errors import InputError
from masa_track.registry import check_installed

_DESCRIPTION = """\
Turns an official MASA checkpoint (.pth, a pickle) into a .safetensors file that holds only what
inference needs, and writes a card (.md) beside it. The names of the tensors identify the model.

With --to onnx it turns weights into ONNX files, which run without torch: MODEL.onnx, MODEL.embed.onnx
and, where the model can find boxes by them, MODEL.detect.onnx. They belong together; --model and load
take the first. The extra is needed: pip install ".[onnx]" in a checkout of masa-track."""

_EPILOG = """\
examples:
  masa-track convert masa_r50.pth                       # writes r50.safetensors and r50.md
  masa-track convert gdino_masa.pth weights/gdino.safetensors --dtype float16
  masa-track track VIDEO --model r50.safetensors
  masa-track convert runs/nano/model.safetensors mine.onnx --to onnx    # weights of your own training
  masa-track track VIDEO --model mine.onnx"""

_CARD = """\
# {model}

MASA ("Matching Anything by Segmenting Anything", Li et al., CVPR 2024) for inference with masa-track.

| | |
|---|---|
| model | `{model}` |
| converted from | `{file}`, SHA-256 `{source_sha256}` |
| the authors' file | {source} |
| licence of the weights | {license}, as the authors' repository states |
| stored as | {dtype}, {count} tensors, {parameters:,} numbers |
| left out | {ignored} tensors that inference does not need |

The training, the data and the figures are the authors' own: see their paper and repository. Nothing was trained or
changed here but the names of tensors{rounding}.

```python
import masa_track
model = masa_track.load("{name}")
embeddings = model.embed(frame, boxes)  # BGR uint8 (H, W, 3), xyxy pixels (N, 4) -> (N, 256) float32
```
"""

_ONNX_CARD = """\
# {title}

Made from `{source}` by `masa-track convert --to onnx`: the same network for ONNX Runtime. Its licence is that of
`{source}`. What must be known of it (model, preprocessing, dimension, prior) is in the metadata of `{name}`.

| | |
|---|---|
{rows}

```python
import masa_track
model = masa_track.load("{name}")
```
"""


def add_parser(commands: Any) -> None:
    """Adds ``convert`` to the command's parser.

    Args:
        commands: what ``ArgumentParser.add_subparsers`` gave.
    """
    parser = commands.add_parser(
        "convert",
        help="turn weights into a .safetensors file or ONNX files",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "checkpoint",
        type=path,
        metavar="MODEL",
        help="the official checkpoint; for --to onnx any file of weights or model's name that --model takes",
    )
    parser.add_argument(
        "output",
        type=path,
        nargs="?",
        metavar="OUT",
        help="the .safetensors or .onnx file to write (default: NAME.safetensors or NAME.onnx, by the model's name)",
    )
    parser.add_argument("--to", choices=("safetensors", "onnx"), default="safetensors", help="(default: %(default)s)")
    parser.add_argument("--model", metavar="NAME", help="refuse the checkpoint unless it is of this model")
    parser.add_argument(
        "--dtype",
        choices=("float32", "float16", "bfloat16"),
        default="float32",
        help="number format of the weights in the output (default: %(default)s; ONNX files hold those in float16 that "
        "it holds exactly)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Converts and prints what was done. Returns 0.

    Raises:
        InputError: for a checkpoint that is none of the official ones, a network that ONNX cannot hold, or an output
            that would overwrite the checkpoint.
        OSError: the output cannot be written.
    """
    if args.to == "onnx":
        return _to_onnx(args)
    if args.output is not None:
        _check_output(args.output, args.checkpoint)
    check_installed("torch", purpose="to convert weights")
    import torch
    from safetensors.torch import save

    from masa_track.files import PartFile, write_text
    from masa_track.models.checkpoints import convert

    tensors, metadata, report = convert(args.checkpoint, args.model)
    output: Path = args.output or Path(f"{metadata['model']}.safetensors")
    _check_output(output, args.checkpoint)
    dtype = getattr(torch, args.dtype)
    tensors = {key: value.to(dtype) if value.is_floating_point() else value for key, value in tensors.items()}
    card = _CARD.format(
        **metadata,
        file=args.checkpoint.name,
        name=output.name,
        dtype=args.dtype,
        count=len(tensors),
        parameters=sum(value.numel() for value in tensors.values()),
        ignored=len(report.ignored),
        rounding="" if args.dtype == "float32" else f" and their rounding to {args.dtype}",
    )
    part = PartFile(output)
    try:
        with open(part.create(), "wb") as file:  # not by save_file: it puts another file in the place of the part
            file.write(save(tensors, metadata))
        part.commit()
        write_text(output.with_suffix(".md"), card)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(output)) from error
    finally:
        part.abandon()
    print(f"{args.checkpoint}: {report}")
    print(f"{output}: {metadata['model']}, {output.stat().st_size / 1e6:,.0f} MB; card in {output.with_suffix('.md')}")
    return 0


def _to_onnx(args: argparse.Namespace) -> int:
    if args.dtype == "bfloat16":
        raise InputError("--dtype must be float32 or float16 for --to onnx, got bfloat16")
    if args.output is not None:
        _check_output(args.output, args.checkpoint, ".onnx")
    check_installed("onnx", purpose="for --to onnx")
    from masa_track.encoders.export import write_onnx
    from masa_track.files import write_text

    files = write_onnx(args.checkpoint, args.output, args.model, half=args.dtype == "float16")
    card = files[0].with_suffix(".md")
    write_text(card, onnx_card(args.checkpoint, files))
    for file in files:
        print(f"{file}: {file.stat().st_size / 1e6:,.1f} MB")
    print(f"card in {card}")
    return 0


def onnx_card(source: Path, files: list[Path]) -> str:
    """The text that is written beside ONNX files.

    Args:
        source: what they were made from.
        files: ``NAME.onnx`` first.
    """
    from masa_track.models.checkpoints import sha256

    rows = "\n".join(f"| `{file.name}` | {file.stat().st_size:,} bytes, SHA-256 `{sha256(file)}` |" for file in files)
    return _ONNX_CARD.format(source=source.name, rows=rows, name=files[0].name, title=files[0].stem)


def _check_output(output: Path, checkpoint: Path, suffix: str = ".safetensors") -> None:
    from masa_track.files import check_file, check_overwriting

    if output.suffix != suffix:
        raise InputError(f"OUT must end in {suffix}, got {output}")
    outputs = [("OUT", check_file(file, "OUT")) for file in (output, output.with_suffix(".md"))]
    check_overwriting(outputs, [("MODEL", checkpoint)])
