"""The call tree: who to ring at each government, in order, on paper, for the day when nothing electronic works.

The cast: `document` says what stands in it, from partners and their shifts; `printing` makes a PDF of it and `page` an
HTML page. `store` keeps one *edition* for each partner, with the names and numbers of its own people, and one for the
secretariat, without anybody's; `renewal` is the loop that keeps them new. `handlers` and `api` hand them out.

The promise: what is handed out was made beforehand and lies in the database, so it is there when whatever makes it is
not. Of other governments it holds offices, switchboards, embassies and roles, and never a name or a person's number.
"""
