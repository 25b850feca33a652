"""Interactive quantitative susceptibility mapping in napari.

Importing this package loads neither torch nor Qt; every contribution of the manifest is
imported only when it is used.
"""

import os
from importlib.metadata import PackageNotFoundError, version

# OpenMP threads that spin while they wait make a two-core machine up to 86x slower as soon as
# the window repaints beside a reconstruction. It only has an effect before torch is imported,
# and a user's own setting wins.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("KMP_BLOCKTIME", "0")

try:
    __version__ = version("napari-qsm")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

__all__ = ["__version__"]
