"""The frozen dataclasses that a person writes: experiment, localizer, sequence model, stacker, competition."""
