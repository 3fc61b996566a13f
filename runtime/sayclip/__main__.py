"""``python -m sayclip``."""

from __future__ import annotations

import sys

from sayclip.cli.main import main

sys.exit(main())
