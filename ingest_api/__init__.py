"""The signed REST door: backends push events and ask who is online.

    app                      the aiohttp application, and the table of its routes
    middlewares              what every request passes: request id, answer, line of log, count
    routing, paths           which call a path means, read from the raw request line
    admission, bodies        what is checked before a body is understood, in the order of the contract
    signing                  the text that is signed, signing it, checking it (pure)
    handlers, in_flight      the calls; one request at a time for each idempotency key
    pushes, schemas          from a body to what is wanted; what a body may hold (marshmallow)
    envelope                 JSON, checked whole and kept as it was written (pure)
    calls                    a request on its way through the door, and its answer
    errors                   every refusal as application/problem+json, from one table of codes
    openapi                  the description: descriptions are its words, answers what is answered
    interfaces               what this door needs of the gateway

Of ``gateway`` it imports the domain alone.
"""
