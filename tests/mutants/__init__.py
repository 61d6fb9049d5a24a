"""Mutation tests: a case or a table must notice every small change to a country file.

`countries` changes country files, and checks the decision cases and tables against each change in the same process.
`survivors` compares the mutants that no case notices with the judgements in `survivors.yaml`.
Run them with `make mutants`.
"""
