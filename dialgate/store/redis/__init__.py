"""The shared store: one Redis or Valkey for any number of gates.

`RedisStore` combines one part per topic. `commands`, which all parts share, has the keys and sends requests. `server`
finds the master and executes a round trip. Each step that must be atomic is one script in `lua/`. `generations` detects
an older copy of the store, and `undo` removes what a failed commit may have written.

All keys begin with `{NAME}:`. A Redis cluster therefore stores them in one slot, and one script can use all of them:

    {dialgate}:seq                 the newest sequence number in the ledger
    {dialgate}:o:N                 the subjects of ledger entries in order, 16 bytes each; zeros for removed entries
    {dialgate}:s:<16 bytes>        the state of a subject, its entries and attempts (`subject_codec`)
    {dialgate}:terms               a hash from id to the texts that attempts share (`subject_codec.Term`)
    {dialgate}:a:LOG:N             the subjects of counted attempts, in order of decision (`sequence_index`)
    {dialgate}:q:<16 bytes>        a remembered answer: `INSTANT DECISION `, then its bytes
    {dialgate}:g:LOG:N             the keys of remembered answers, in order of decision
    {dialgate}:positions           a hash with four fields for each log:
                                     `LOG`          the position where crash recovery starts
                                     `LOG top`      the highest sequence number ever written to the store
                                     `LOG results`  the number of results of the log's attempts
                                     `LOG fence`    a number that only increases; a commit with a lower fence is refused
    {dialgate}:generation          the generation's number, and the logs that have not acknowledged it (`generations`)
    {dialgate}:recorded            a hash from LOG to the sequence number up to which its entries are on disk
    {dialgate}:lists               a hash from controller and id to a call list
    {dialgate}:proofs              a hash from controller and caller ID to the newest proof
    {dialgate}:deliveries          a hash from webhook to its delivery state
    {dialgate}:counts              a hash from `HOUR CAMPAIGN` to `ANSWERED ABANDONED`, the numbers of calls
    {dialgate}:counts:changes      a hash with these fields:
                                     VERSION   the `HOUR CAMPAIGN` that this version changed
                                     `newest`  the newest version
    {dialgate}:lifts               a hash from campaign and instant to a lifted pause
    {dialgate}:pauses              a hash from controller and campaign to the campaign's newest pause by a supervisor
    {dialgate}:months              a hash from each node's log to the keys of its months, encrypted with the nodes' common key
    {dialgate}:accounts            a hash from the name of a person's account to the account, with hashed passwords and encrypted secrets
    {dialgate}:clients             a hash from the name of a client to its keys, as SHA-256, with their end and the day of last use
    {dialgate}:breaches            a hash from id to a personal data breach with its steps
    {dialgate}:law_read            a hash from controller, country, file and day to who acknowledged the changes of law
    {dialgate}:report_mails        a hash from the name of a schedule to the newest report that was sent by mail
    {dialgate}:holds               a hash from a keyed hash of a number to the newest legal hold on it, which names the number encrypted
    {dialgate}:layout              the version of this layout
    {dialgate}:copying             present while a copy into the store is incomplete
    {dialgate}:keys                the fingerprint of the keys that the gates use
    {dialgate}:nodes               a hash from node to the presence it last reported
    {dialgate}:board:INSTANT       a hash from node to its figures of one second, for the console's boards
    {dialgate}:seen                a hash from configuration, version or node to the time when it was first seen
    {dialgate}:lead:TASK           the node that leads TASK

One MGET reads all values for a batch. A commit sends the values that were read, and writes only if they are unchanged.
An unknown subject has an empty value. Call lists and other structs are stored as JSON. A new field of such a struct
goes last, with a default. No key or value contains an unencrypted telephone number. A ledger entry is acknowledged once
it is on the disks of the master and of as many replicas as the settings require (WAITAOF).
"""

from dialgate.store.redis.store import RedisStore

__all__ = ["RedisStore"]
