"""Banks: encoded support clips, how good they are, and whether their class names are used."""
