"""The shared state behind ``gateway.interfaces``, chosen whole: ``memory`` for one replica, Redis for many."""
