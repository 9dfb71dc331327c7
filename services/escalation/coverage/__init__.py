"""Coverage goals: "8 of 10 within 15 minutes", counted down, and escalating by themselves when missed.

The cast: `domain` says how a goal stands, purely; `countdown` begins, counts and decides at the due time; `store` holds
the rows.
"""
