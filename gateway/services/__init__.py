"""The use cases of the gateway, one module each.

client_events   ClientEvents: handles the events of clients as the event catalogue says
connect         Connector: registers and resumes connections, applies a refreshed token
degraded_mode   DegradedMode: the reaction to a stalled or unavailable state
disconnect      Disconnector: removes connections and updates the shared state
drain           drain: disconnects all clients at an even pace
memberships     Memberships: joins and leaves rooms for a connection
notifications   Notifications: delivers what is in the queues of webhooks
publish         MessagePublisher: publishes messages and disconnect commands of backends
recovery        Recovery, Replayer: read sessions and the history, and replay missed messages
replay_budget   ReplayBudget: the turns of users at the history, and what they may cost
token_expiry    TokenExpiry: warns clients of the end of their tokens, then disconnects them
"""
