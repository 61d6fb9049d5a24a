"""People who use the gates: their accounts, roles, sign-in and sessions. What a role may do is in `roles`. Also the keys of programs, whose scopes are in `dialgate.config.clients`."""
