"""The tests' own domain, ``toy``, registered as a third party's would be: a distribution on the path."""

import sys
from pathlib import Path

PLUGIN = str(Path(__file__).parent / "plugin")
sys.path.insert(0, PLUGIN)
