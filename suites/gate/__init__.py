"""The regression gate: two checkouts measured in pairs, and counters compared exactly."""
