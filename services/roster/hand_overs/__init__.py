"""The last change of each rota that wants hand-overs signed: who is paged beside whoever has taken over.

The cast: `domain` finds the change, `store` keeps what escalation says about signatures, `handlers` takes it from the
bus. Duty plans carry the change, so that escalation pages by it; who is on call shows it.
"""
