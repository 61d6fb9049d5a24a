"""The command `dialgate`, with one module for each group of commands."""
