"""When, what and where a figure was measured."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def provenance() -> dict[str, Any]:
    """Date, commit, hardware and Python."""
    here = Path(__file__).parent
    command = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit.stdout.strip(),
        "hardware": f"{processor()}, {len(os.sched_getaffinity(0))} processors, {memory_gib():.0f} GiB",
        "python": platform.python_version(),
    }


def processor() -> str:
    """The processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def memory_gib() -> float:
    """The machine's memory in GiB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
