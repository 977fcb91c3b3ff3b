"""Values and rules of the gateway: standard library only, no event loop, no I/O.

acks             AckTerms, AckReport, AckResult: acknowledgements that backends request of clients
attachments      attach: base64 strings in JSON that become attachments, and the pointers that name them
bounded_body     the body of a request, up to a limit, and the limit of all bodies that arrive at once
clocks           Clock, Timer, Schedule: the clocks of the process and its scheduled calls
dedup            DedupKey: the one-time use of a signed request
disconnects      DisconnectReason: how the gateway ends a connection
errors           the tree of errors, each with a stable code
event_catalogue  EventCatalogue: what clients may send, and what happens then
identity         Identity, Revocation: what a verified token says, and whether it was revoked
ingest_keys      IngestKey, Scope: the credential of one backend
issuers          TokenIssuer, OwnedUsers: who signs tokens, and of which users
messages         Message, DisconnectCommand, SessionTakeover: the entries that the broker appends
listings         NamePage, ConnectionPage, StateSummary: what lists show of the shared state
names            the rules for user ids, rooms, namespaces and events
notifications    Notification: an event that a webhook gets at least once
offline_queue    is_kept, copy_id: messages that are kept for users until they are received
origins          Origin: where a web page is from, and the form in which it is allowed
positions        Position: where an entry is in the stream of all entries
presence         UserPresence, PresenceChange: the connections of a user on all replicas
rate_limit       the rate limit algorithm (GCRA)
redis_url        RedisUrl: a parsed Redis URL
sampling         Sampling: which log lines are written
sessions         RecoverySession: what is needed to resume a connection
socket_data      StoredData: the JSON object of a connection that backends change
status           StateStatus: what a replica can do
strict_json      decode_strictly: JSON of backends
templates        references to a client event in JSON values
times            the text form of a time
traces           Trace: the W3C trace of a message
webhooks         Webhook, WebhookAnswer: the endpoint of a backend, and what an answer asks for
"""
