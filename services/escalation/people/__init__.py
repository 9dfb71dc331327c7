"""What a page tells a person: approved texts in seven languages, and what a person writes back.

The cast: `texts` makes a message for a person from the facts of a page, with `wording` (the texts as data, and the
names of countries, partners and languages) and `plain_text` (what devices and voices can take); `reply_words` reads
what comes back; `persons` gathers the facts when a page is sent.
"""
