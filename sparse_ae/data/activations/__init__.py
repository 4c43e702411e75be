"""Activations of a language model on text of the user's own, kept on disk.

``corpus`` finds documents, ``cutting`` makes contexts of them (``tokens``), ``language_model`` runs a model up to a
layer, ``cache`` keeps rows with their tokens, ``harvest`` fills it, and ``module`` is the dataset. ``head`` and
``predictions`` run the whole model with activations replaced.
"""
