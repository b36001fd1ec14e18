"""`masa-track convert`: an official `.pth` to a safetensors file of what inference needs, with a card."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from masa_track.cli.arguments import path
from masa_track.errors import InputError

_DESCRIPTION = """\
Turns an official MASA checkpoint (.pth, a pickle) into a .safetensors file that holds only what
inference needs, and writes a card (.md) beside it. The names of the tensors identify the model."""

_EPILOG = """\
examples:
  masa-track convert masa_r50.pth                       # writes r50.safetensors and r50.md
  masa-track convert gdino_masa.pth weights/gdino.safetensors --dtype float16
  masa-track track VIDEO --model r50.safetensors"""

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


def add_parser(commands: Any) -> None:
    """Adds ``convert`` to the command's parser.

    Args:
        commands: what ``ArgumentParser.add_subparsers`` gave.
    """
    parser = commands.add_parser(
        "convert",
        help="turn an official .pth into a .safetensors file",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", type=path, metavar="PTH", help="the official checkpoint")
    parser.add_argument(
        "output",
        type=path,
        nargs="?",
        metavar="OUT",
        help="the .safetensors file to write (default: MODEL.safetensors)",
    )
    parser.add_argument("--model", metavar="NAME", help="refuse the checkpoint unless it is of this model")
    parser.add_argument(
        "--dtype",
        choices=("float32", "float16", "bfloat16"),
        default="float32",
        help="number format of the output (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Converts and prints what was done. Returns 0.

    Raises:
        InputError: for a checkpoint that is none of the official ones, or an output that would overwrite it.
        OSError: the output cannot be written.
    """
    if args.output is not None:
        _check_output(args.output, args.checkpoint)
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


def _check_output(output: Path, checkpoint: Path) -> None:
    from masa_track.files import check_file, check_overwriting

    if output.suffix != ".safetensors":
        raise InputError(f"OUT must end in .safetensors, got {output}")
    outputs = [("OUT", check_file(file, "OUT")) for file in (output, output.with_suffix(".md"))]
    check_overwriting(outputs, [("PTH", checkpoint)])
