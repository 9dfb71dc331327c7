"""Line tests: once a month, unannounced, somebody at every partner is woken to see whether they answer in time.

The cast
    plan        when each partner's test of a month is due: drawn from a secret, purely
    domain      what a line test says, when it may begin, when it is over, and what came of it, purely
    texts/      its few words, one file for each language
    handlers    switching the plan, one test now, and beginning and ending tests
    loop        looks every second, and when an Actual alert is released: stops, ends, begins
    store       the rows: the plan's switch and the tests
    views       plan, tests and report as JSON; `api` the routes

The promise: nobody can foresee the minute, a restart draws the same one, and an Actual alert stops a test and keeps
the next from beginning.
"""
