"""Keys and what is done with them: pseudonyms, sealing, signatures, permits, and the removal of numbers from text."""
