"""The use cases of the gateway, one module each.

acks             Acks: acknowledgements of clients for backends that wait for them
client_events    ClientEvents: handles the events of clients as the event catalogue says
connect          Connector: registers and resumes connections, applies a refreshed token
counted_disconnects  CountedDisconnects, DisconnectReplies: how many connections the replicas ended
degraded_mode    DegradedMode: the reaction to a stalled or unavailable state
disconnect       Disconnector: removes connections and updates the shared state
drain            drain: disconnects all clients at an even pace
memberships      Memberships: joins and leaves rooms for a connection
message_history  MessageHistory: reads and erases messages of the history for backends
notifications    Notifications: delivers what is in the queues of webhooks
offline_receipts  OfflineReceipts: removes messages from the offline queue that clients received
presence_events  PresenceWorker: notifies a backend and clients of users who become online or offline
publish          MessagePublisher: publishes messages and disconnect commands of backends
queue_monitor    QueueMonitor: metrics of what waits in the queues of webhooks
recovery         Recovery: resumes sessions, and reads the history for them
replay           Replayer: sends missed messages to connections, and makes them live
replay_budget    ReplayBudget: the turns of users at the history, and what they may cost
room_changes     RoomChangePublisher, RoomChangeListener: changes of rooms that backends request
shared_work      SharedWork, Steps: the partitions of this replica, and steps that are repeated
socket_data      SocketDataChanges: changes the socket data of connections
token_expiry     TokenExpiry: warns clients of the end of their tokens, then disconnects them
token_revocation  TokenRevocations: revokes single tokens and ends their connections
user_lists       UserListSender, Listings: the list of the connections of a namespace for its clients
"""
