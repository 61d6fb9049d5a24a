"""Several processes of one node: the parent, its workers, and the messages between them."""
