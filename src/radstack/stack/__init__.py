"""Level two: recipes over out-of-fold tables. Their result is again an out-of-fold table, so stacks nest."""
