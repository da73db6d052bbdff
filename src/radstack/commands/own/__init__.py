"""A competition from a folder and a table: what is found out, what is written, and the parts that the written file names."""
