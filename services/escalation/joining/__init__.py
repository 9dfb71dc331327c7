"""Changing who is asked while an escalation runs: adding somebody, and stopping one's own pages.

The cast: `domain` decides, purely; `handlers` does it, `api` is the HTTP face.
"""
