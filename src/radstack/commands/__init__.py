"""Commands beside the stages: what is missing, whether a demo is as expected, what can go, where a number is from."""
