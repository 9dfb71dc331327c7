"""`python -m redphone`: the same as the `redphone` command."""

from __future__ import annotations

from redphone.cli import main

main()
