"""Several gates on one store: who they are, what they ask each other, and the files they copy."""
