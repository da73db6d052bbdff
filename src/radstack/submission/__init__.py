"""Submission files and the Kaggle client."""
