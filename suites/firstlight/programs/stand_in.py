"""Stand-in for ncu and compute-sanitizer in a rehearsal: it runs their program without observing it.

What they would write it writes too, with nothing in it but that sentence.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXPORT = "--export"


def main() -> None:
    """Arguments: whose place it takes, then exactly that tool's. Its exit code is the program's."""
    name, *words = sys.argv[1:]
    start = words.index(sys.executable)
    options, program = words[:start], words[start:]
    code = subprocess.run(program, check=False).returncode  # noqa: S603  # the program that the step names
    said = f"a rehearsal: {name} was not there, and nothing was looked at"
    if EXPORT in options:
        Path(options[options.index(EXPORT) + 1]).write_text(said + "\n", encoding="utf-8")
    print(said)  # noqa: T201  # the log
    sys.exit(code)


if __name__ == "__main__":
    main()
