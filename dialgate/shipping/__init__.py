"""Shipping of decisions: segments to a folder or to object storage, and every record to a stream.

The local log is authoritative. A separate process (`dialgate ship`) reads its files, so no call waits for a
slow, full or unreachable target. Undelivered records stay in the log and are delivered later, from the
position that the target reports.

Layout of a target, where NODE is the node name and LOG the name of the log in `log/`:

    NODE/LOG/kept/<sha256>                         the laws and controllers' files that records name
    NODE/LOG/keys/<name>.pem                       the public key of every key that signed checkpoints
    NODE/LOG/log/0000000000000001.parquet          a segment, packed as in the gate's log folder
    NODE/LOG/log/0000000000000001.sha256             its SHA-256
    NODE/LOG/log/0000000000000001.index.npy          its index
    NODE/LOG/log/0000000000000001.checkpoints        its signed checkpoints, written last: the segment is complete
    NODE/LOG/log/0000000000000042.timestamp          the time stamp for the checkpoint at entry 42, if it has one
    NODE/LOG/log/0000000000000043.ndjson           an unpacked segment, which grows with its checkpoints. In object storage,
                                                   a growing file is one object for each part, named by the part's offset
    NODE/LOG/log/worker-2/…                        the files of log/worker-2, and so on
    NODE/LOG/log/restored-N/…                      those of the log since the node was restored from a backup

`dialgate log verify --data` accepts NODE/LOG as a data folder. A segment that was shipped unpacked is a
`.ndjson` file. Complete files are never replaced: an existing file is compared, and a difference is an error.

Keys in Redis, where NAME is the setting `shipping.stream.name`:

    {NAME}:decisions           a hash from each log name to the node and the number of the log, for example `gate/1`
    {NAME}:decisions:LOG       a stream per log. Log entry 1042 has the id `1042-0` and the fields `hash` and `entry`,
                               both as stored in the log, so the stream contains no unencrypted called number

The last id of a stream shows which entries were delivered, so no entry appears twice. A consumer that was
interrupted continues after the last id that it read. `data/shipping/` stores a cursor per target.
"""
