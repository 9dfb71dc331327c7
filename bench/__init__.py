"""Benchmarks of Red Phone as production runs it: `python -m bench fanout | sustained | timers`.

The cast: `rig` starts real servers and one process per service and brings partners in; `sinks` receives webhooks and
says when each came; `fanout`, `sustained` and `timers` measure; `report` holds the arithmetic and the tables. What is
measured and how to read it stands in README.md beside this file.
"""
