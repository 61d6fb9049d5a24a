"""Keys and their uses: pseudonyms, encryption, signatures, and the masking of numbers in texts."""
