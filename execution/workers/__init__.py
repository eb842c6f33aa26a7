"""Worker processes, one for each rank and device: starting them, supervising them, sharing out tasks."""
