"""The `redphone` command: everything on one machine, and every call that a person makes from a terminal."""
