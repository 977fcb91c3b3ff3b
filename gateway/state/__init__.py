"""The shared state behind ``gateway.ports``, chosen whole: ``memory`` for one replica, Redis for many."""
