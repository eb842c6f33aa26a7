"""First session on a new GPU: checks, times and profiles in three stages of under nine minutes, in one folder."""
