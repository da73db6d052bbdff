"""What every other room stands on: errors, files, recipes, artifacts, folds, progress, processes."""
