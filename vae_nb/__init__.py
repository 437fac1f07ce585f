"""Helpers that the chapters of the book import, one module for each concern.

The rooms, each of which imports only those before it: ``data``, ``models``, ``objective``,
``training``, ``store``, ``evaluation``, ``claims``, ``figures``, ``answers``. Importing this
package seeds nothing, styles nothing, downloads nothing and silences nothing.
"""

__version__ = "0.1.0"
