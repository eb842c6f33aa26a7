"""`python -m moebench`: the same as the `moebench` command."""

from __future__ import annotations

from .cli.main import main

if __name__ == "__main__":
    main()
