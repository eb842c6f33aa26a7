"""Stand-in for ncu and compute-sanitizer in a rehearsal: it runs their program without observing it.

Where they would write a file, it writes one that holds only this statement.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXPORT = "--export"


def main() -> None:
    """Run the program named after a tool and its options; exit with the program's exit code."""
    name, *words = sys.argv[1:]
    start = words.index(sys.executable)
    options, program = words[:start], words[start:]
    code = subprocess.run(program, check=False).returncode  # noqa: S603  # the program that the step names
    said = f"a rehearsal: {name} was not used, and nothing was observed"
    if EXPORT in options:
        Path(options[options.index(EXPORT) + 1]).write_text(said + "\n", encoding="utf-8")
    print(said)  # noqa: T201  # the log
    sys.exit(code)


if __name__ == "__main__":
    main()
