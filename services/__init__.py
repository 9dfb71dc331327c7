"""The services of Red Phone. They never import each other: facts travel as events declared in `shared.contracts`."""
