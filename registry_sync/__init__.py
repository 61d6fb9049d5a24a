"""The nightly job that queries opposition registries and publishes their answers as a snapshot for the gates.

Registries that answer queries (Italy):
    query_cycle        one run: submit, collect, publish, raise alarms
    query_candidates   the numbers on call lists that may be called soon
    query_schedule     which of them are due, most urgent first
    query_replies      the files that the registry returns, verified
    query_packages     the packages submitted, and the state of each
    answer_merge       the answers of several consultations merged into one set
    consent_voiding    ledger entries for consents that an enrolment voids
    alarm_policy       when a package or a late consultation is an alarm

Registries that publish full lists (UK, US):
    full_list_cycle    one run: fetch, read, publish
    full_list_areas    versions and numbers of each subscribed area

Both:
    nightly_job        one run over every registry; the only module that reads the clock
    publication        writing sets and manifests atomically
    rollback           differences between publications, and the return to an earlier one
    release_holds      large changes held until two people release them
    snapshot_mirror    a node's copy of publications
    run_report         summaries, alarms and metrics of a run
    config             registries.yaml
    formats, sources   file formats; folder, SFTP and HTTPS
    simulator          a simulated registry for tests and trials

By hand: `manual_import` with `import_checks` and `consultations`; `cli` and `cli_*` are the commands.
"""
