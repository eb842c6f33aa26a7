"""The trial of one kernel on one problem: build, check against the oracle, measure, check again, record."""
