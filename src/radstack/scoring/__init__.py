"""Metrics, what a competition scores, and intervals around a score."""
