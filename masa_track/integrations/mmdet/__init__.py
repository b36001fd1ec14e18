"""At home in mmdet: ``custom_imports = dict(imports=["masa_track.integrations.mmdet"])`` registers all of it.

Thin wrappers with the names and keys of the authors' configurations; what they wrap is in `models`, `association`,
`training` and `evaluation`.

Raises:
    InputError: mmdet is not installed, or its mmcv was built without its operators; the message has the command.
"""

from __future__ import annotations

from masa_track.errors import InputError, missing_extra

BUILD_MMCV = (
    'pip install "setuptools>=80,<82" wheel ninja psutil packaging && '
    "MAX_JOBS=2 pip install --no-build-isolation onedl-mmcv==2.3.6"
)
REBUILD_MMCV = BUILD_MMCV.replace("--no-build", "--force-reinstall --no-deps --no-cache-dir --no-build")


def check_mmdet() -> None:
    """Raises InputError unless mmdet can be imported and its mmcv has operators."""
    try:
        import mmcv
    except ImportError as error:
        raise InputError(
            f'mmdet and its mmcv are needed here ({error}): run `{BUILD_MMCV} && pip install ".[mmdet]"` in a checkout '
            "of masa-track (builds mmcv once, some nine minutes on two cores; torch 2.8 is known to work)"
        ) from error
    try:
        import mmcv.ops
    except ImportError as error:
        raise InputError(
            f"mmcv {mmcv.__version__} was installed without its operators ({error}), which mmdet needs: {REBUILD_MMCV}"
        ) from error
    try:
        import mmdet.models  # noqa: F401
    except (ImportError, AssertionError) as error:  # mmdet asserts which mmcv it was made for
        raise InputError(f"{missing_extra('mmdet', 'mmdet')} ({error})") from error


check_mmdet()

from masa_track.integrations.mmdet import (  # noqa: E402 (only now it is known that they can be imported)
    datasets,
    detectors,
    drawing,
    masa,
    metrics,
    parts,
    trackers,
    training,
    views,
)

REGISTERED = (datasets, detectors, drawing, masa, metrics, parts, trackers, training, views)
