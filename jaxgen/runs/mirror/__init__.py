"""A mirror: a run's checkpoints and what else a restart needs, in an object store or a folder.

run.json, config.gin, ...       small files of the run directory, as they were last
checkpoints/STEP/               as Orbax wrote it
mirror/STEP/metrics.jsonl       the rows, and history.jsonl, that belong to this checkpoint
mirror/STEP/manifest.json       written last: a checkpoint is whole where it has one

So a mirror reads like a run directory. Orbax writes to no S3, and what is written by several
processes in the background could not be told from what was cut short; here files that are whole on
disk are copied by one thread (`uploading`), and fetched before a start (`fetching`), or where a
checkpoint turns out to be damaged here (`again`).
"""
