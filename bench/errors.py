"""What stops a benchmark."""

from __future__ import annotations

from farandole.errors import FarandoleError


class BenchError(FarandoleError):
    """It could not measure: a side died, or did not do what it was measured by."""
