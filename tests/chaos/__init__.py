"""Chaos: kill trainings with SIGKILL at chosen places, and check that they end as if nothing had happened.

``make chaos`` runs many kills; ``test_chaos.py`` runs some.
"""
