"""The decisions moved on: closed segments to a folder or to object storage, and every record to a stream, as it comes.

The local log is the truth. This reads its files, in a process of its own (`dialgate ship`), and nothing of it runs where calls
are decided: however slow, full or dead a target is, no call waits for it. What could not be delivered stands in the log and
is delivered later, from where the target says that it is.

At a target, NODE is the node's name and LOG that of its first worker's log:

    NODE/LOG/keys/<name>.pem                       the public half of each key that ever signed its checkpoints
    NODE/LOG/log/0000000000000001.parquet          a segment, as it is packed in the gate's log folder, with
    NODE/LOG/log/0000000000000001.sha256             its SHA-256,
    NODE/LOG/log/0000000000000001.checkpoints        and last, what the signed checkpoints say of it: then it is complete
    NODE/LOG/log/0000000000000042.timestamp          the time stamp of the checkpoint of entry 42, if it has one, as it comes
    NODE/LOG/log/worker-2/…                        the same of the second worker's; and so on

so NODE/LOG is a data folder that `dialgate log verify --data` proves without anything else. A segment that was shipped before
it was packed is a `.ndjson` there. Nothing is ever replaced: what is there already is compared, and what differs is refused.

On Redis, NAME being that of the settings:

    {NAME}:decisions           a hash: the name of each log, and the node and worker that write it, as in `gate/2`
    {NAME}:decisions:LOG       a stream for each log. The id of an entry is its sequence, `1042-0`; its fields are `hash` and
                               `entry`, both as stored, so nothing in it shows a called number

The stream's own last id says what it has. So an entry never stands in it twice; a consumer that was cut off reads again from
its own last id. `data/shipping/` holds how far each target has been told.
"""
