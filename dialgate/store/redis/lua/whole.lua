-- Mark a copy as complete. KEYS: the ledger's sequence, the mark of a running copy. ARGV: the newest sequence.
redis.call('SET', KEYS[1], ARGV[1])
redis.call('DEL', KEYS[2])
return 1
