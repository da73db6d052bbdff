"""A competition from a folder and a table: what ``new_competition.py`` writes is made of these parts."""
