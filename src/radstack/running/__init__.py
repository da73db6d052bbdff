"""One run of a stage: its options, its folders, its jobs, the tables that it reads."""
