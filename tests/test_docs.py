"""README and docs: their blocks run, their options and links exist, the site builds without warnings.

A page's blocks run in order in one folder with the files that the pages name: `street.mp4`, `frames/`, `det.txt`, ...
Commands are parsed by the real parser. Those that need a download, a library of their own or minutes are only parsed. A
Python block is left out only where `<!-- not run: REASON -->` stands on the line before it.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from html import unescape
from importlib import import_module
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from masa_track.cli.main import build_parser, main

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)]
MOST_NOT_RUN = 0.05  # share of the blocks
OTHERS_FILES = (
    "bdd_val.json",
    "PETS09-S2L1/vtest.avi",
    "gt250.txt",
    "MOT17/train",
    "training/label_02",
    "DAVIS/Annotations/480p",
    "vipseg_val.json",
    "parts_truth.json",
)  # not ours to have
LIBRARIES = ("sam3", "transformers:", "ultralytics:", "torchvision:", "mmdet:", "fasterrcnn_")


@dataclass(frozen=True)
class Block:
    """A fenced block; ``line`` is the line of its fence, from 1, ``not_run`` the reason of the mark before it."""

    page: Path
    line: int
    language: str
    code: str
    not_run: str | None = None

    def commands(self) -> list[list[str]]:
        """The command lines of a ``sh`` block as words; continued lines are one."""
        lines = self.code.replace("\\\n", " ").splitlines() if self.language == "sh" else []
        return [words for words in (shlex.split(line, comments=True) for line in lines) if words]

    def tracks(self) -> list[list[str]]:
        """The arguments of its ``masa-track`` commands."""
        return [words[1:] for words in self.commands() if words[0] == "masa-track"]


def blocks_of(page: Path, text: str | None = None) -> list[Block]:
    """The page's fenced blocks."""
    found: list[Block] = []
    lines = (page.read_text() if text is None else text).splitlines()
    start = None
    for number, line in enumerate(lines):
        if start is None and line.startswith("```"):
            start = number
        elif start is not None and line == "```":
            mark = re.fullmatch(r"<!-- not run: (.+) -->", lines[start - 1]) if start else None
            code = "\n".join(lines[start + 1 : number]) + "\n"
            found.append(Block(page, start + 1, lines[start][3:], code, mark and mark[1]))
            start = None
    assert start is None, f"{page}: the fence of line {start} does not end"
    return found


BLOCKS = {page: blocks_of(page) for page in PAGES}
EVERY = [block for blocks in BLOCKS.values() for block in blocks]
TESTED = [block for block in EVERY if block.language == "python" or block.tracks()]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def pages_with(kind: str) -> list[Path]:
    """The pages that have Python blocks or ``masa-track`` commands."""
    return [p for p in PAGES if any((b.language == "python") if kind == "python" else b.tracks() for b in BLOCKS[p])]


def subparsers() -> dict[str, argparse.ArgumentParser]:
    actions = build_parser()._actions
    return next(dict(a.choices) for a in actions if isinstance(a, argparse._SubParsersAction))


def tool_options() -> set[str]:
    """The options in the sources of the scripts in tools/."""
    return {name for tool in (ROOT / "tools").glob("*.py") for name in re.findall(r'"(--[\w-]+)"', tool.read_text())}


def test_blocks_are_found() -> None:
    text = "a\n<!-- not run: needs a GPU -->\n```python\nx = 1\n```\n"
    text += "```sh\nmasa-track track a.mp4 \\\n  --out b  # c\nls\n```\n"
    python, shell = blocks_of(ROOT / "page.md", text)
    assert (python.not_run, python.line, python.code) == ("needs a GPU", 3, "x = 1\n")
    assert shell.not_run is None
    assert shell.tracks() == [["track", "a.mp4", "--out", "b"]]


def test_few_blocks_are_marked_as_not_run() -> None:
    marked = [block for block in TESTED if block.not_run]
    assert len(marked) <= MOST_NOT_RUN * len(TESTED), [(name_of(b.page), b.line) for b in marked]
    marks = sum(page.read_text().count("<!-- not run") for page in PAGES)
    assert marks == len(marked), "a mark `<!-- not run: REASON -->` belongs on the line before a block"


@pytest.mark.parametrize("block", [b for b in TESTED if b.not_run], ids=lambda b: f"{name_of(b.page)}:{b.line}")
def test_what_is_not_run_imports_what_exists(block: Block) -> None:
    for node in ast.walk(ast.parse(block.code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("masa_track"):
            for alias in node.names:
                module = import_module(str(node.module))
                assert hasattr(module, alias.name) or import_module(f"{node.module}.{alias.name}")


@pytest.mark.parametrize("page", pages_with("sh"), ids=name_of)
def test_commands_parse(page: Path) -> None:
    for block in BLOCKS[page]:
        for arguments in block.tracks():
            place = f"{name_of(page)}:{block.line}: masa-track {shlex.join(arguments)}"
            try:
                args = build_parser().parse_args(arguments)
            except SystemExit:
                pytest.fail(place)
            options = {word.split("=")[0] for word in arguments if word.startswith("--")}
            known = subparsers()[args.command]._option_string_actions
            assert options <= known.keys(), place  # argparse itself takes abbreviations


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_tools_and_options_exist(page: Path) -> None:
    """Scripts of tools/ and their options in blocks, and all words of the form of an option in inline code."""
    for words in (words for block in BLOCKS[page] for words in block.commands()):
        script = next((word for word in words if re.match(r"(tools|configs|tests)/", word)), None)
        if script is not None and script.startswith("tools/") and script.endswith(".py"):
            source = (ROOT / script).read_text()
            unknown = [word for word in words if word.startswith("--") and f'"{word}"' not in source]
            assert not unknown, f"{script} has no {unknown}"
        for word in words:
            if re.match(r"(tools|configs|tests)/[\w/.]+\.(py|sh)$", word):
                assert (ROOT / word).is_file(), word
    known = {name for parser in subparsers().values() for name in parser._option_string_actions} | tool_options()
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`]+)`", prose)
    options = {
        name for span in spans if "sphinx-build" not in span for name in re.findall(r"(?<![\w-])--[a-z][\w-]*", span)
    }
    assert options <= known, options - known


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_names(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\((?:path:)?([^)#]+)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), target
    assert "masa-track[" not in text, 'the package is installed from the checkout: pip install ".[extra]"'
    assert "../shared" not in text


def test_readme_is_short_and_keeps_the_two_commands() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) < 150
    assert "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/masa-track demo" in lines
    assert "bash tools/test.sh" in lines
    picture = DOCS / "images" / "demo.webp"
    assert picture.stat().st_size < 3e6


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the pages name: 8 frames of three textured patches that move, with boxes and truth."""
    folder = tmp_path_factory.mktemp("docs")
    rng = np.random.default_rng(0)
    patches = [np.kron(rng.integers(0, 255, (n, n, 3)), np.ones((36 // n, 36 // n, 1))) for n in (2, 6, 18)]
    ground = np.kron(rng.integers(100, 150, (12, 16, 3)), np.ones((10, 10, 1)))
    rows, frames = [], []
    for index in range(8):
        frame = ground.astype(np.uint8)
        for shown, patch in enumerate(patches):
            x, y = (8 * index, 110 - 8 * index, 60 + 4 * index)[shown], (4, 42, 80)[shown]
            frame[y : y + 36, x : x + 36] = patch
            rows.append(f"{index + 1},{shown + 1},{x + 1},{y + 1},36,36,1,-1,-1,-1")
        frames.append(frame)
    for name in ("frames", "photos"):
        (folder / name).mkdir()
        for index, frame in enumerate(frames[: 8 if name == "frames" else 2]):
            cv2.imwrite(str(folder / name / f"{index + 1:06d}.png"), frame)
    cv2.imwrite(str(folder / "street.jpg"), frames[0])
    (folder / "gt.txt").write_text("\n".join(rows) + "\n")
    (folder / "det.txt").write_text("\n".join(rows) + "\n")
    with av.open(str(folder / "street.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
        container.mux(stream.encode())
    for name in ("zoo", "entrance", "exit"):
        shutil.copy(folder / "street.mp4", folder / f"{name}.mp4")
    return folder


def only_parsed(args: argparse.Namespace) -> bool:
    """Whether a command needs what a test does not have: a download, a library, a camera, somebody's files, minutes."""
    if args.command in ("demo", "convert", "find", "tune", "verify", "vos"):
        return True
    if args.command in ("models", "recover", "segment"):
        return False
    if args.command == "proposals":
        return args.sam is not None
    if args.command == "refer":
        return args.referrer is not None or args.model is not None
    if args.command == "eval":
        return args.gt in OTHERS_FILES
    if args.command == "export":
        return args.format == "tao-results"
    if args.command == "detect":
        return bool(args.text or args.referrer) or (args.detector or "").startswith(LIBRARIES)
    if args.masa_config is not None:
        return True
    elsewhere = "://" in args.source or args.source.isdigit() or args.source in OTHERS_FILES
    library = (args.detector or "").startswith(LIBRARIES)
    weights = args.model != "nano" or args.masks is not None or args.masklets not in (None, "flow")
    return elsewhere or library or weights or args.text is not None


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if p in pages_with("python") or p in pages_with("sh")], ids=name_of)
def test_blocks_run(page: Path, material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "page"
    shutil.copytree(material, folder)
    monkeypatch.chdir(folder)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in BLOCKS[page]:
        place = f"{name_of(page)}:{block.line}"
        if block.language == "python" and not block.not_run:
            exec(compile("\n" * block.line + block.code, str(page), "exec"), namespace)
        for arguments in block.tracks():
            if not only_parsed(build_parser().parse_args(arguments)):
                assert main(arguments) == 0, f"{place}: masa-track {shlex.join(arguments)}"


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-d", str(tmp_path / "trees")]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    site = tmp_path / "html"
    built = subprocess.run(
        [*line, str(DOCS), str(site)], cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stdout + built.stderr
    text = unescape(re.sub(r"<[^>]+>", "", (site / "commands.html").read_text()))
    for name, parser in subparsers().items():
        assert f"masa-track {name}" in text
        for option in parser._option_string_actions:
            assert option in text, f"masa-track {name} {option}"
    assert "update(" in unescape(re.sub(r"<[^>]+>", "", (site / "api" / "tracker.html").read_text()))
