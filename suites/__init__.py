"""Questions: declarative sweeps, and how they run and resume."""
