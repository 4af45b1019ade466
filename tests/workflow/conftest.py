"""The workflow's tests: what is no module of tests."""

collect_ignore = ["fake_kubernetes.py"]  # a script, for which the packages of the cluster must be there
