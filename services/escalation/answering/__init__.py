"""Answers from the channel itself: by link, code, SMS, mail, or a key on the telephone.

The cast: `links` makes tokens and codes from a page's id, purely; `link_page` is the page behind a link and `looking`
what it shows; `replies` does what an answer says, over the rows of `store`; `inbound_mail` and `provider_api` take what
mail and telephone providers hand in.
"""
