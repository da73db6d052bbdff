"""What the numbered scripts call: one module a stage, each turning recipes into artifacts."""
