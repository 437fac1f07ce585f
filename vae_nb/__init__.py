"""Helpers that the chapters of the book import, one module for each concern.

CONTRIBUTING.md draws the modules and says which imports which. Importing this package seeds
nothing, styles nothing, downloads nothing and silences nothing.
"""

__version__ = "0.1.0"
