"""One experiment on one fold: the loop, its guard against non-finite losses, and checkpoints that resume bit for bit."""
