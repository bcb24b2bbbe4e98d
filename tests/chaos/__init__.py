"""Kills trainings with SIGKILL wherever it hurts, and proves that they end as if nothing had happened.

``make chaos`` runs all of it, ``test_chaos.py`` some.
"""
