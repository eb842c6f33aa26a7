"""Sessions of nox: `nox -s bench` measures and reports, `nox -s tests` runs the tests, `nox --list` lists all."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["tests", "lint", "types"]
nox.options.reuse_existing_virtualenvs = True

CONSTRAINTS = "constraints.txt"

# Two batch sizes: docs/tuning.md has how long they take and what they gain.
CPU_TUNING = ("scatter", "--model", "Qwen3-30B-A3B", "--width", "512", "--tokens", "256,1024")


def install(session: nox.Session, *groups: str, editable: bool = True) -> None:
    """Install moebench with its peers and the given dependency groups, at the versions that are tested."""
    wanted = nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), *groups) if groups else ()
    session.install("-c", CONSTRAINTS, *(["-e"] if editable else []), ".[peers]", *wanted)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure every family of dispatch and show the answers; arguments go to `moebench run`."""
    install(session)
    session.run("moebench", "run", *session.posargs, success_codes=[0])


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests on all cores; arguments go to pytest, `-- -m slow` runs the slow ones.

    `-- -m exhaustive --part 3/10` runs a tenth of the cases that the default run leaves to others.
    """
    install(session, "test")
    chosen = session.posargs or ["-m", "not slow and not exhaustive"]
    session.run("pytest", "-n", "auto", "--dist", "loadgroup", *chosen)


@nox.session
def tune(session: nox.Session) -> None:
    """Tune a kernel, by default one in torch for the CPU; arguments go to `moebench tune`."""
    install(session)
    session.run("moebench", "tune", *(session.posargs or CPU_TUNING), success_codes=[0])


@nox.session
def regression(session: nox.Session) -> None:
    """Compare the counters and the machine code of the kernels with the accepted ones, without a clock.

    With arguments, run `moebench gate` with them instead, which measures: `nox -s regression -- --base REV`.
    """
    install(session)
    if session.posargs:
        # Standard output holds the verdicts alone; nox would mix the progress in.
        session.run("moebench", "gate", *session.posargs, success_codes=[0], stderr=None)
        return
    session.run("moebench", "counters", success_codes=[0])
    session.run("moebench", "counters", "--machine-code", success_codes=[0])


@nox.session(venv_backend="none")
def gpu(session: nox.Session) -> None:
    """Run a first session on a GPU: check, measure, profile and tune; arguments such as `-- --stage 1 --output DIR`.

    Runs in nox's own environment and installs nothing but moebench, because a machine with a GPU brings its torch,
    Triton and CuPy. docs/gpu.md says how to do without nox and without a network.
    """
    session.run("python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "-e", ".")
    folder = f"runs/gpu-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    session.run("python", "-m", "moebench.cli.main", "firstlight", "--output", folder, *session.posargs)


@nox.session(name="gate-study")
def gate_study(session: nox.Session) -> None:
    """Measure how often the gate's rule and other rules are right: the tables of docs/regression.md."""
    install(session)
    session.run("python", "studies/gate_study.py", *session.posargs)


@nox.session(name="tuning-study")
def tuning_study(session: nox.Session) -> None:
    """Search recorded sweeps again with every strategy: the tables of docs/tuning.md."""
    install(session)
    session.run("python", "studies/tuning_study.py", *session.posargs)


@nox.session(name="network-study")
def network_study(session: nox.Session) -> None:
    """Compare predictions with measurements on simulated links: the table of docs/parallel.md.

    Needs Linux, root and iproute2. An argument is the folder to write to, by default results/recorded.
    """
    install(session, "test")
    session.run("python", "studies/network_study.py", *session.posargs, env={"PYTHONPATH": "tests/support"})


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation as a site in site/; a dead link or anchor ends the build.

    The API pages come from the sources, so the package itself is not installed. Arguments go to `mkdocs build`.
    """
    groups = nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), "docs")
    session.install("-c", CONSTRAINTS, *groups)
    session.run("mkdocs", "build", "--strict", *session.posargs, env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting, and the workflows of CI."""
    session.install(*nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), "lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("zizmor", "--offline", "--no-progress", "--persona", "pedantic", ".github")
    workflows = sorted(map(str, Path(".github/workflows").glob("*.yml")))
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows)


@nox.session
def types(session: nox.Session) -> None:
    """Check types of the installed wheel, the tests, the scripts of docs/ and this file."""
    install(session, "types", editable=False)
    root = Path.cwd()
    config = f"{root}/pyproject.toml"
    with tempfile.TemporaryDirectory() as elsewhere, session.chdir(elsewhere):  # the root has a `kernels` too
        session.run("mypy", "--config-file", config, "-p", "moebench")
        scripts = (f"{root}/noxfile.py", f"{root}/docs/generate.py", f"{root}/docs/site_hooks.py")
        session.run("mypy", "--config-file", config, *scripts)
        # Files of different folders share their names: explicit bases tell them apart.
        bases = ["--explicit-package-bases", f"{root}/tests", f"{root}/studies"]
        session.run("mypy", "--config-file", config, *bases)


@nox.session
def report(session: nox.Session) -> None:
    """Make the report of files of records: `nox -s report -- FILE...`."""
    install(session)
    session.run("moebench", "report", *session.posargs)
