"""What competes: the problem, its routing, the oracle, and one file per implementation."""
