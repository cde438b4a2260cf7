"""A harness that disturbs real runs by a seeded schedule of faults, and says what came of them.

    tools/chaos --seed=1 --faults=100 --minutes=60

A round is a run of two processes with four simulated devices each, under `jaxgen launch local`.
Its faults come one after another; at its end its parameters, rows and batches must be those of a
run that nothing disturbed, bit for bit.
"""
