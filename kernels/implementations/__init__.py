"""One file per implementation; a leading underscore marks what several of them share."""
