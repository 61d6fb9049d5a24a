"""Mutation tests: small changes of the deciding code and of the law; a test must notice each.

`countries` changes country files and decides the cases and tables again, in this process. `operators` changes Python source;
`runner` runs the tests that execute a changed line, each mutant in a forked process. `survivors` compares the mutants that no test
notices with `survivors.yaml`, where each has a judgement. Start with `make mutants`.

No mutation tool on PyPI does this: mutmut 3 leaves out properties, decorated functions and everything outside functions (defaults of
a struct, tables, constants), collects the tests again for each mutant, and numbers mutants, so that a new line renames the rest;
none changes YAML.
"""
