"""Adapters: reports from loops and engines of other libraries, and camshaft engines for use in other libraries."""
