"""One command for a fresh clone: it prepares `.venv` and runs something in it.

    python3 dev.py demo [argument…]             a tour on a private PostgreSQL, or on DATABASE_URL's
    python3 dev.py test [--long] [argument…]    style, types and tests; arguments go to pytest
    python3 dev.py compare [--quick] [--html FILE] [argument…]    PostgreSQL beside Redis and RabbitMQ, as far
                                                as they are on this machine; says how to get the others
    python3 dev.py chaos [--minutes N] [--seed S]    real workers under faults; --help says more

Needs Python 3.10 or newer and nothing else. uv is used if it is installed, unless DEV_NO_UV is set.
"""

import fcntl
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "prepared-by-dev.py"
EXTRAS = "embedded,examples,test"

CHECKS = [
    ["ruff", "check", "."],
    ["ruff", "format", "--check", "."],
    ["mypy"],
    # The tests mostly wait for other processes: three files at a time take half as long as one.
    ["pytest", "-n", "3", "--dist", "loadfile"],
]


def main(arguments):
    commands = {"demo": demo, "test": test, "compare": compare, "chaos": chaos}
    if not arguments or arguments[0] not in commands:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    prepare()
    return commands[arguments[0]](arguments[1:])


def demo(arguments):
    become("examples.demo", arguments)


def compare(arguments):
    become("examples.comparison", arguments)


def chaos(arguments):
    become("tests.reliability.chaos", arguments)


def become(module, arguments):
    """So that signals and the exit code are its own."""
    os.chdir(str(ROOT))
    os.execv(str(PYTHON), [str(PYTHON), "-m", module, *arguments])  # noqa: S606


def test(arguments):
    """Run every check, whatever the ones before it say."""
    failed = []
    for check in CHECKS:
        name = " ".join(check[:2]).removesuffix(" -n").rstrip(" .")
        extra = arguments if check[0] == "pytest" else []
        print(f"--- {name}", flush=True)
        if run([str(PYTHON), "-m", *check, *extra]) != 0:
            failed.append(name)
    print(f"--- failed: {', '.join(failed)}" if failed else "--- everything passed", flush=True)
    return 1 if failed else 0


def prepare():
    """Bring `.venv` up to date, on the Python that runs this file. One at a time in this clone."""
    uv = None if os.environ.get("DEV_NO_UV") else shutil.which("uv")
    with (ROOT / "pyproject.toml").open("rb") as project:
        fcntl.flock(project, fcntl.LOCK_EX)
        if uv:
            prepare_with_uv(uv)
        else:
            prepare_with_pip(project.read())


def prepare_with_uv(uv):
    if not PYTHON.exists():
        print("--- preparing .venv with uv", flush=True)
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    environment["UV_PROJECT_ENVIRONMENT"] = str(VENV)
    if not os.access(Path("~").expanduser(), os.W_OK):
        environment.setdefault("UV_NO_CACHE", "1")  # uv keeps its cache in the home and fails without one
    with tempfile.TemporaryDirectory() as scratch:
        environment["TMPDIR"] = scratch  # uv leaves its lock file behind
        command = [uv, "sync", "--quiet", "--locked", "--all-extras", "--python", sys.executable]
        if run(command, environment) != 0:
            sys.exit("dev.py: uv could not prepare .venv (see above); with DEV_NO_UV=1 pip is used instead")


def prepare_with_pip(project):
    """Install once, and again when the dependencies or the Python change."""
    fingerprint = hashlib.sha256(project + sys.version.encode() + EXTRAS.encode()).hexdigest()
    if PYTHON.exists() and STAMP.exists() and STAMP.read_text() == fingerprint:
        return
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        sys.exit("dev.py: this Python cannot make virtual environments: install python3-venv, or install uv")
    print("--- preparing .venv with pip; this takes a minute", flush=True)
    install = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(VENV)],
        [*install, "--editable", f".[{EXTRAS}]"],
    ):
        if run(command) != 0:
            sys.exit("dev.py: could not prepare .venv (see above)")
    STAMP.write_text(fingerprint)


def run(command, environment=None):
    """Run a command to its end, also when we are told to stop, so that it can clean up."""
    child = None
    told_to_stop = []

    def pass_on(number, _):
        told_to_stop.append(number)
        # A terminal sends Ctrl+C to the child by itself.
        if child and not (number == signal.SIGINT and sys.stdin.isatty()):
            child.send_signal(number)

    # Before the child starts: what is ignored here, as in a background job, would stay ignored there.
    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        child = subprocess.Popen(command, cwd=str(ROOT), env=environment)
        status = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if told_to_stop:
        sys.exit(128 + told_to_stop[0])
    return status


if __name__ == "__main__":
    if sys.version_info < (3, 10):  # noqa: UP036 - this file is what tells so
        sys.exit(f"dev.py: Python 3.10 or newer is needed; {sys.executable} is {sys.version.split()[0]}")
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
