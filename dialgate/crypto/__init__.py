"""Keys and their uses: pseudonyms, encryption, signatures, permits, and the removal of numbers from text."""
