"""The Helm chart in ``helm/sio-gateway``: rendered, judged, and its values described.

rendering     a value set becomes the objects that Helm would install
schemas       each object against Kubernetes' own schemas and those of the operators
findings      all that ``make chart`` looks at
table         the values of values.yaml as the table of docs/how-to/deploy-with-helm.md
"""
