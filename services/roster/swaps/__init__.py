"""Swaps: a contact offers a stretch of their own shifts, and a colleague takes it.

The cast: `domain` holds a `Swap`, its states and what is refused; `store` its rows; `handlers` offer, accept, decline,
withdraw and let expire; `views` and `api` are the HTTP face. All but the last three are pure or explicit queries.

The promise: an accepted swap is an override of the rota, made by the same path as any other change of it and in the
same transaction as the acceptance, so that who is paged and what the two have agreed can never differ.
"""
