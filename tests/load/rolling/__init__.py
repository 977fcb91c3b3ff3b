"""Rolling restarts behind a real proxy: Debian's nginx with the configuration of examples/compose.

restart          replicas behind nginx, each stopped and started again while pushes continue
reconnect_rate   how evenly the clients of a drained replica reconnected; pure
stalls           for how long the machine did not run this process
"""
