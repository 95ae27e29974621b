"""What the end-to-end tests share: their support modules, and a name for each vector."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "support"))
