"""Files of recorded routes: their format, how they are read, and how they are written."""
