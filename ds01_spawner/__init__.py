"""DS01 Spawner: JupyterHub servers on shared GPU machines, in containers that AIME's tools can open."""
