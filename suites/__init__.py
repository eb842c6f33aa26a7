"""Questions: declarative sweeps, how they run and resume, the regression gate, predictions."""
