"""The page of stage 09: sections of blocks, made from artifacts, put into one self-contained HTML file."""
