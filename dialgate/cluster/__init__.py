"""Several gates on one store: membership, questions to peers, replication of list files. Nothing here is on the path of a call."""
