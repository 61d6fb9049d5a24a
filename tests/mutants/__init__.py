"""Mutation tests: a test must notice every small change to the decision code and to the country files.

`countries` changes country files and decides the cases and tables again in the same process. `operators` changes Python source.
`runner` runs the tests that execute a changed line, each mutant in a forked process. `survivors` compares the mutants that no test
notices with the judgements in `survivors.yaml`. Start with `make mutants`.

No mutation tool on PyPI is sufficient, and none changes YAML. mutmut 3 ignores properties, decorated functions and everything outside
functions (struct defaults, tables, constants). It collects the tests again for each mutant. It numbers mutants, so that a new line
renames all later ones.
"""
