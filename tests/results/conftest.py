"""Settings of property-based tests."""

from __future__ import annotations

from hypothesis import settings

# No deadline for one example: the first one pays for imports, and machines are shared.
settings.register_profile("moebench", deadline=None)
settings.load_profile("moebench")
