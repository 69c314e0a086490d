"""The service beside the Hub: it keeps ledger, Docker and GPUs in agreement, all the time.

`python -m ds01_spawner.service --config jupyterhub_config.py`, as a service that the Hub manages or under
systemd. It may die and come back at any moment: whatever it had begun is in the ledger, and neither the
Hub nor a running server needs it. While it is away, no new GPU is handed out once its last reading of
the GPUs is too old.
"""
