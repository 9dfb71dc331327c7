"""Messages to a partner's own systems: testing an endpoint, the delivery log, sending again.

The cast: `handlers` does it, `store` reads and writes the rows, `api` is the HTTP face.
"""
