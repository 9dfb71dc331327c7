"""Crises: the situations that alerts belong to. The files are called as everywhere: domain, handlers, store, api."""
