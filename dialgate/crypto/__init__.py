"""Keys and their uses: pseudonyms, encryption, signatures, and the removal of numbers from text."""
