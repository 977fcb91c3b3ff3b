"""The REST API: backends push events, query presence and disconnect users with signed HTTP requests.

    app           the table of routes; builds the REST API and mounts it in an aiohttp application
    pipeline      RestApi: the steps around every request (id, trace, handler, log line, count)
    routing       finds the route of a request target, and reads the id from its path
    request       Request, AuthenticatedRequest, Response and Route
    auth          Authenticator: all checks before the body is parsed, in the order of docs/reference/rest.md
    signing       the text to sign, its signature and the check of both (pure)
    signature_mistakes  finds the mistake in a bad signature, for developers (pure)
    body          a body that aiohttp is still receiving, within its limits
    handlers      the calls that push, and those about one user
    plain_push    accepts a push of the usual form in one step, or leaves it to the others
    acks          emits with acknowledgement: the wait for clients, and what the response has of it
    offline_queue  pushes that are kept for users: the member ``ttl`` of a body
    batch         the call that pushes several messages: reads the body, and accepts all or none
    batch_schemas  marshmallow schemas of its body
    idempotency   one request at a time for each idempotency key; answers that are stored for repeats
    query         reads the query of a request, and the cursors of pages (pure)
    revocation    the call that revokes a token, with its schemas
    room_changes  the calls that have connections join and leave rooms, and disconnect those in a room
    listings      the calls about users, rooms, connections and replicas, with the schemas of their bodies
    webhooks      the calls about the queues and the dead letters of webhooks
    history       the calls that read and erase messages, and the schemas of their answers
    push          turns a body into a Push, a Disconnect or ids; has a fast path for common bodies
    schemas       marshmallow schemas of request bodies
    answers       marshmallow schemas of response bodies
    json_body     a strict JSON parser that keeps values as they were written (pure)
    large_body    the same for large bodies, in slices between which the event loop runs other tasks
    errors        the table of error codes, and problems as application/problem+json
    access_log    log line, count and span of each finished request
    openapi       generates the OpenAPI document from the schemas and the next modules
    openapi_calls  the calls that push, in the OpenAPI document, with examples
    openapi_reads  the calls that read
    openapi_listings  the calls about users, rooms, connections and replicas, with their answers
    openapi_admin  the calls that change connections, rooms, tokens and webhooks
    openapi_text  the parameters, headers and remedies in the OpenAPI document
    interfaces    protocols that the REST API needs from the rest of the process

The package imports only ``gateway.domain`` from ``gateway``.
"""
