"""Files of tokens: their format, how they are written and read, their names, and their folder."""
