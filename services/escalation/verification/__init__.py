"""Whether a contact point reaches whom it should: a code goes over that very point, and its owner returns it.

The cast: `handlers` sends and takes codes, `store` holds which were sent and tried, `api` is the HTTP face.
"""
