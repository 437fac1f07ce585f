"""How good is a model? One module for each question, all over the whole held-out set.

Everything is evaluated in eval mode, with fixed noise, and does not depend on the batch size.
``measure`` collects what the chapters compare.
"""
