"""Statistics: how fast partners acknowledge, by precedence, and how coverage goals went.

The cast: `domain` is pure (the period, the shape of a count), `store` counts in the database, `handlers` knows who sees
what, `api` is the HTTP face. Drills are never counted together with what was real.
"""
