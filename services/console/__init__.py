"""console: the web face. Server-rendered pages over the three public APIs; it owns sessions and nothing else.

The cast
    sessions   who is signed in: a random cookie in the browser, its hash and the caller's claims in the database
    apis       the three HTTP APIs, called as the person who is signed in; says which one is down
    live       the board as it changes: one stream from escalation for all who see the same, rendered once
    words      languages, times and numbers as the reader writes them
    pages/     one file per page: what it asks the APIs, and which template shows it
    templates/ static/ locale/   what is shown, how it looks, and in which words

The promise: the browser never holds a token, and nothing is decided here. Whoever may see or do a thing is said by the
API that has it; a page for a thing of someone else is the page for a missing thing.
"""
