"""The hourly heartbeat: whether every path would carry an alert, asked before there is one.

The cast
    domain         what a beat's end means, purely: tried again, an alarm, over
    store          one row for each path: when its next beat is due, and what its last one came to
    paths          which paths there are: every partner's endpoints, and a loop-back of our own at each provider
    beating        the loop: claims what is due, sends it, and writes down what became of it
    loop_backs     sends to our own addresses, and takes what comes back from them
    certificates   until when the certificate that an endpoint shows is valid
    telling        who is told of a path that fails, or works again
    handlers, api  reading them, and asking for one now

The promise: a heartbeat pages nobody and never delays an alert. A path that fails is an alarm within one interval. What
is due stands in rows, so that a restart forgets no beat, and a crash repeats at most those that were on their way,
under the same ids. `services.escalation.heartbeat` is something else: the sign of life of this very process.
"""
