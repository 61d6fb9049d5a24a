"""The command `dialgate`: one module for each group of commands."""
