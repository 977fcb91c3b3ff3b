"""Rolling restarts behind a real proxy: Debian's nginx with the configuration of examples/compose.

rolling    one replica after the other is asked to stop and started again, while pushes go on
pace       how evenly clients came back; pure
"""
