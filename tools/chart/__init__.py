"""Checks of the Helm chart in ``helm/sio-gateway``, and the table of its values.

rendering   the objects that Helm would install for a value set
schemas     validation of objects by the schemas of Kubernetes and of the operators
findings    every check of ``make chart``
table       the values of values.yaml as the table of docs/how-to/deploy-with-helm.md
__main__    the command line ``python -m tools.chart``
"""
