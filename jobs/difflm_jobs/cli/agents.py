"""`difflm mcp`: the platform as tools for agents."""

from __future__ import annotations

import typer

agents_app = typer.Typer()
