"""Sessions of nox: `nox -s bench` measures and reports, `nox -s tests` runs the tests, `nox --list` lists all."""

from __future__ import annotations

import shutil
import tarfile
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

# What a user of an installed moebench asks for first; each reads files that the wheel has to bring along.
TINY = ("smoke", "--shape", "D=64,F=64,E=8,K=2", "--tokens", "16", "--load", "text", "--samples", "10")
FIRST_COMMANDS = (
    ("doctor",),
    ("list", "machines"),
    ("run", *TINY, "--kernel", "scatter", "--output", "tiny.jsonl"),
    ("report", "tiny.jsonl"),
    ("predict", "--model", "DeepSeek-V3", "--machine", "dgx-h100", "--ranks", "8..64"),
    ("advise", "--model", "Mixtral-8x7B", "--traffic", "decode:64=0.9,prefill:8192=0.1", "--device", "H100"),
    ("firstlight", "--list", "--output", "session"),
)


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
def dist(session: nox.Session) -> None:
    """Build the distributions, and prove that each installs and works in a clean environment, far from the repository.

    They are put into dist/, or into the folder that is the argument.
    """
    output = Path(*session.posargs or ["dist"]).absolute()
    constraints = Path(CONSTRAINTS).absolute()
    session.install(*nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), "dist"))
    with tempfile.TemporaryDirectory() as name:
        built, clean = Path(name) / "built", Path(name) / "clean"
        session.run("python", "-m", "build", "--outdir", str(built))
        wheel, sdist = (next(built.glob(pattern)) for pattern in ("*.whl", "*.tar.gz"))
        session.run("twine", "check", "--strict", str(wheel), str(sdist))
        compare_with_git(session, sdist)
        session.run("python", "-m", "venv", str(clean))
        with session.chdir(name):  # where no folder of the repository can be imported
            pip = (str(clean / "bin" / "python"), "-m", "pip", "--quiet")
            run_installed(session, *pip, "install", "-c", str(constraints), str(wheel))
            check_version(session, clean, wheel)
            for command in FIRST_COMMANDS:
                run_installed(session, str(clean / "bin" / "moebench"), *command)
            run_installed(session, *pip, "uninstall", "--yes", "moebench")
            run_installed(session, *pip, "install", "-c", str(constraints), f"{sdist}[peers]")
            check_version(session, clean, sdist)
            run_installed(session, str(clean / "bin" / "moebench"), "counters", "--kernel", "scatter")
        output.mkdir(parents=True, exist_ok=True)
        for stale in output.glob("moebench-*"):
            stale.unlink()
        for file in (wheel, sdist):
            shutil.copy(file, output)


@nox.session
def hub(session: nox.Session) -> None:
    """Build the folder for the Hugging Face kernels hub: `nox -s hub -- FOLDER [TABLE...]`, and let its client load it.

    Without arguments the folder is runs/hub, which is made anew, and has no tuned tables. Another must be new or empty.
    """
    install(session, "test", "hub")
    if not session.posargs:
        shutil.rmtree("runs/hub", ignore_errors=True)
    folder, *tables = session.posargs or ["runs/hub"]
    session.run("python", "-P", "-m", "moebench.integrations.kernels_hub.hub_folder", folder, *tables)
    session.run("pytest", "tests/integrations/kernels_hub", "-m", "not slow")


def compare_with_git(session: nox.Session, sdist: Path) -> None:
    """End the session unless a source distribution holds the files of the repository and what is made of them."""
    listed = session.run("git", "ls-files", "--cached", silent=True, external=True)
    with tarfile.open(sdist) as archive:
        held = {member.name.partition("/")[2] for member in archive if member.isfile()}
    made = {name for name in held if name.startswith("moebench.egg-info/")} | {"PKG-INFO", "setup.cfg"}
    if differ := sorted(set(str(listed).splitlines()) ^ (held - made)):
        session.error(f"MANIFEST.in: the source distribution and git differ in {', '.join(differ)}")


def run_installed(session: nox.Session, *command: str) -> str:
    """Run a command of a clean environment, print what it says, and return it."""
    unset = dict.fromkeys(("PYTHONPATH", "MOEBENCH_TUNED", "MOEBENCH_RATES"))
    said = session.run(*command, external=True, silent=True, env={**unset, "MOEBENCH_BUSY_MACHINE": "1"})
    session.log(said)
    return str(said)


def check_version(session: nox.Session, clean: Path, built: Path) -> None:
    """End the session unless the command of a clean environment says the version that a distribution is named for."""
    said = run_installed(session, str(clean / "bin" / "moebench"), "--version").strip()
    if said.replace(" ", "-") not in (built.name.removesuffix("-py3-none-any.whl"), built.name.removesuffix(".tar.gz")):
        session.error(f"{built.name} says that it is {said}")


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
