"""`python -m masa_track` is `masa-track`."""

import sys

from masa_track.cli.main import main

sys.exit(main())
