"""What two or more services really share: contracts, the road to the bus, the database, time, ids and identity.

No module here imports a service. `contracts` declares every event once; `events`, `asyncapi` and the bus derive from
it.
"""
