"""Detectors of one box a class: networks, augmentation, training."""
