"""Adapters: loops and engines of other libraries that report to camshaft, and camshaft engines for other libraries."""
