"""The Socket.IO door: receives clients, over python-socketio on our transport.

door        what happens with sessions, packets and events; the way in
welcome     who may connect, and what a newcomer is told
clients     one client: its session, its connections, the link that the rest of the house sends through
refresh     a client brings a newer token
tokens      where a token is looked for
encoding    the bytes of Socket.IO packets
refusals    every refusal as CONNECT_ERROR
overrides   what is overridden of python-socketio, and nothing else; pinned by a contract test
"""
