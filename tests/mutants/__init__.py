"""Mutation tests: a test must notice every small change to the decision code and to the country files.

`countries` changes country files, and checks the decision cases and tables against each change in the same process.
`operators` changes Python source. `runner` runs the tests that execute a changed line, each mutant in a forked process.
`survivors` compares the mutants that no test notices with the judgements in `survivors.yaml`.
Run them with `make mutants`.

No mutation tool on PyPI is sufficient, and none changes YAML. mutmut 3 ignores properties, decorated functions and
everything outside functions (struct defaults, tables, constants). mutmut collects the tests again for each mutant.
mutmut also numbers its mutants, so an inserted line changes the names of all later mutants.
"""
