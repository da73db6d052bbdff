"""What every other room stands on: errors, files, recipes, artifacts, folds, progress, processes."""

from radstack.core.lifetime import interrupt_in_one_line

interrupt_in_one_line()
