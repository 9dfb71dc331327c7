"""Counterparts: small real servers on this machine that stand where others' services are, for tests and for `demo`."""
