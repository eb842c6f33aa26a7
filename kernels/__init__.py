"""The problem, its routing, the oracle, and the implementations that compete, one file each."""
