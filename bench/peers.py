"""Other gateways, installed where they disturb nobody."""

import subprocess
import sys

from bench.spawning import BenchError
from bench.targets import LITELLM

PYTHON = LITELLM / "bin" / "python"
ASK_VERSION = "import importlib.metadata as m; print(m.version('litellm'))"


def install_litellm() -> None:
    """Into a virtual environment of its own, unless it is there."""
    if litellm_version():
        return
    print(f"installing LiteLLM into {LITELLM}; this takes a few minutes", file=sys.stderr)
    make = [sys.executable, "-m", "venv", "--clear", str(LITELLM)]
    install = [str(PYTHON), "-m", "pip", "install", "-q", "--disable-pip-version-check", "litellm[proxy]"]
    for command in (make, install):
        done = subprocess.run(command, check=False, stdout=sys.stderr)
        if done.returncode:
            raise BenchError(f"cannot install LiteLLM: {' '.join(command[-3:])} has failed")


def litellm_version() -> str:
    """The installed version; nothing if there is none."""
    if not PYTHON.exists():
        return ""
    done = subprocess.run([str(PYTHON), "-c", ASK_VERSION], check=False, capture_output=True, text=True)
    return done.stdout.strip()
