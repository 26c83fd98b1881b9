"""What all tests share: an environment that changes nothing they expect, and the servers."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loopback import Server, serving

# g4f reads these when it is imported, so they must stand before any test is.
_home = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
atexit.register(_home.cleanup)
for _name in [*os.environ]:
    if _name.upper().endswith(("_API_KEY", "_PROXY", "_BASE_URL")) or _name.startswith("G4F_"):
        del os.environ[_name]
# Colours in what argparse prints, and a stdout without its buffer, are for the tests that ask for them.
for _name in ("FORCE_COLOR", "PYTHON_COLORS", "PYTHONUNBUFFERED"):
    os.environ.pop(_name, None)
os.environ.update(
    HOME=_home.name, USERPROFILE=_home.name, G4F_CONFIG_DIR=os.path.join(_home.name, "g4f")
)
sys.path.insert(0, str(Path(__file__).parent.parent))


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Start loopback servers that end with the test: `serve(script, …)`, as `loopback.serving` takes them."""
    with contextlib.ExitStack() as stack:
        yield lambda *scripts: stack.enter_context(serving(*scripts))
