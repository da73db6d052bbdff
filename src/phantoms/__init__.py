"""The drawn competitions: phantoms with known truth, in each organizer's own file layout, defects included."""
