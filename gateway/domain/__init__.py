"""Values and rules of the gateway: standard library only, no waiting, no I/O."""
