"""First light: everything that a new GPU should be asked, in three stages of under nine minutes, into one folder."""
