"""The library under every competition: files, recipes, folds, pixels, networks, sequences, stacks, submissions.

It knows no competition; ``src/competitions`` tells it what a picture, a target and a score are.
"""
