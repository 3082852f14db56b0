"""The Node programs of the benchmark: installed on first use, beside their sources, where Git ignores them."""

import shutil
import subprocess
from collections.abc import Callable
from json import loads
from pathlib import Path

NODE = Path(__file__).with_name("node")
INSTALL_S = 300


def why_not(tell: Callable[[str], None]) -> str:
    """Install the packages if they are not there yet; why Node cannot be used, or nothing."""
    npm = shutil.which("npm")
    if shutil.which("node") is None or npm is None:
        return "node and npm are not on PATH"
    installed, lock = NODE / "node_modules/.package-lock.json", NODE / "package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= lock.stat().st_mtime:
        return ""
    tell("installing the Node packages, once")
    # Not `npm ci`, which wants a lock to name the optional packages of all platforms, whether they can be had or not.
    command = (npm, "install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
    try:
        done = subprocess.run(command, cwd=NODE, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        return f"npm did not finish within {INSTALL_S} s"
    if done.returncode:
        return f"npm could not install: {(done.stderr.strip().splitlines() or ['no reason given'])[0]}"
    installed.touch()
    return ""


def versions() -> str:
    """The versions of Node and of the packages that are named in package.json."""
    node = subprocess.run(("node", "--version"), capture_output=True, text=True, check=False).stdout.strip()
    named = loads((NODE / "package.json").read_text(encoding="utf-8"))["dependencies"]
    return ", ".join([f"Node {node.removeprefix('v')}", *(f"{name} {number}" for name, number in named.items())])
