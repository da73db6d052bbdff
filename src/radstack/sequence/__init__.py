"""Sequence models: a series' slices in order, read as the embeddings and probabilities of the networks below."""
