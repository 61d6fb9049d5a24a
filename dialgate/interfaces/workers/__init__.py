"""The processes of a node: the parent, its workers, and the messages between them."""
