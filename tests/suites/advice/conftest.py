"""Settings of these tests."""

from __future__ import annotations

from hypothesis import settings

# Examples have no deadline: the first one includes imports, and machines are shared.
settings.register_profile("moebench", deadline=None)
settings.load_profile("moebench")
