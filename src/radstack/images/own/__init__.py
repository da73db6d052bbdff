"""The pictures and the table of a competition of one's own: what is read of them, and the index made from them."""
