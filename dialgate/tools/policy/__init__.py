"""Policy cases: an operator's own expectations of the decisions, read from YAML files and checked against configuration and law.

`case_file` is the format and its reader. `case_facts` makes the facts of a case, `call_facts` those of its call from the configuration.
`checking` decides each case and compares, `coverage` names what no case tests, `recorded_case` and `first_cases` write cases. No part needs
a gate. The repository's own cases, in `tests/cases/`, are read by the same reader.
"""
