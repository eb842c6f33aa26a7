"""One file per implementation; files with a leading underscore hold what several of them share."""
