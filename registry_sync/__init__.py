"""The nightly job that queries opposition registries and publishes their answers as a snapshot for the gates.

Registries that answer queries (Italy, Australia):
    query_cycle        one run: submit numbers, collect answers, publish them, raise alarms
    query_budget       the tariff's limits: numbers and consultations that remain of the year
    query_candidates   the call-list numbers of campaigns that run now or soon
    query_schedule     the numbers that are due for a query, most urgent first
    query_replies      the files that the registry returns, and their verification
    query_packages     the submitted packages of numbers, and the state of each
    answer_merge       the answers from several consultations, merged into one set
    ledger_consents    the consents in the ledger
    disconnection      queries whether a number was disconnected since a consent (US)
    alarm_policy       the alarms about packages and late consultations

Registries that publish full lists (UK, US):
    full_list_cycle    one run: fetch new files, read them, publish their numbers
    full_list_areas    the version and the numbers of each subscribed area
    full_list_names    file names, which contain a version and an area

Both:
    nightly_job        one run over every registry
    gate_requests      requests to the gate, which voids consents
    publication        atomic writes of number sets and manifests
    rollback           differences between publications, and the return to an earlier one
    snapshot_mirror    a node's copy of publications
    run_report         a run's summaries, alarms and metrics
    config             registries.yaml
    source_settings    transport settings in registries.yaml
    formats, sources   file formats; folder, SFTP and HTTPS
    simulator          a simulated registry for tests and trials

Manual imports use `manual_import`, `import_checks` and `consultations`. `cli` and `cli_*` define the commands.
"""
