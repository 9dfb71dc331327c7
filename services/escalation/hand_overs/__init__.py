"""Hand-overs: one person gives a rota to the next, both sign, and until both have, both are paged.

The cast: `domain` finds the changes of a duty plan and says when they can be signed, `handlers` lists and signs them,
`store` keeps who has signed and what was open then, `api` is the HTTP face. `directory` pages by what is signed.
"""
