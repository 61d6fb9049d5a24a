"""People who use the gates: their accounts, roles, sign-in and sessions. What a role may do is in `roles`. Programs and their keys are not here."""
