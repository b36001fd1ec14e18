"""Environments for libraries whose pins clash with ours: `.venv-NAME` beside the code, made once and used again.

Such an environment sees the packages of the running one; what is installed into it comes first, without its
dependencies, and what it needs of those is listed here. Run as a script it makes all of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENTS = {
    # pins numpy < 2 (norfair), opencv < 5 (boxmot); ultralytics only to keep the AGPL out of the main environment
    "peers": [
        "boxmot==25.0.0",
        "deep-sort-realtime==1.3.2",
        "norfair==2.3.0",
        "ultralytics==8.4.190",
        *("filterpy==1.4.5", "lapx>=0.5.5", "polars", "polars-runtime-32", "psutil", "requests", "ultralytics-thop"),
    ],
    # the last release of roboflow's trackers with a slot for embeddings; it was written for this supervision
    "trackers2": [
        *("trackers==2.0.1", "supervision==0.26.0rc7", "firerequests==0.1.4", "fire"),
        *("aiohttp", "aiosignal", "aiohappyeyeballs", "aiofiles", "frozenlist", "multidict", "propcache", "yarl"),
        *("attrs", "nest-asyncio"),
    ],
    # pins numpy < 2.4, opencv < 4.13, torch and some fifty more; what its results need is little
    "inference": [
        *("inference==1.8.3", "inference-models==0.39.6", "roboflow-workflows==0.2.14", "streamvision==0.1.4"),
        *("backoff", "pybase64", "python-dotenv", "structlog"),
    ],
}


def environment(name: str) -> Path:
    """The Python of an environment, which is made if it is not there, or if its list has changed."""
    folder = ROOT / f".venv-{name}"
    wanted = "\n".join([sys.executable, *ENVIRONMENTS[name]])
    stamp, python = folder / "made-of.txt", folder / "bin" / "python"
    if not stamp.exists() or stamp.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", folder], check=True)
        packages = next(folder.glob("lib/python*/site-packages"))
        (packages / "running.pth").write_text(f"{ROOT}\n{sysconfig.get_path('purelib')}\n")
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps"]
        subprocess.run([*pip, *ENVIRONMENTS[name]], check=True)
        stamp.write_text(wanted)
    return python


def check(name: str, of: str, folder: Path) -> None:
    """Runs ``tests/peers/NAME.py`` in an environment; none may fail or be left out.

    Args:
        name: of the file.
        of: the environment's.
        folder: for what the libraries write.
    """
    data = [] if (ROOT.parent / "shared" / "clips").is_dir() else ["-m", "not shared_data"]
    quiet = {"YOLO_CONFIG_DIR": str(folder), "YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true"}
    done = subprocess.run(
        [environment(of), "-m", "pytest", "-q", "-p", "no:cacheprovider", *data, f"tests/peers/{name}.py"],
        cwd=ROOT,
        env={**os.environ, **quiet},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " skipped" not in done.stdout


if __name__ == "__main__":
    for each in ENVIRONMENTS:
        print(environment(each))
