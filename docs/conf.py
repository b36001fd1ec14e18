"""Settings of the documentation: `sphinx-build -W --keep-going -b html docs docs/_build/html`, from the repository."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_ext")]

from masa_track import __version__  # noqa: E402

project = "masa-track"
author = "the masa-track authors"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "command_reference"]
exclude_patterns = ["_build"]
smartquotes = False  # "--option" in the commands' descriptions must stay as it is
html_theme = "furo"
html_title = f"masa-track {release}"

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_typehints = "signature"
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Source", "notes")]
