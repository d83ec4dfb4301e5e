"""Cycles: rounds of embed, index, evaluate, mine and train, each published as a version.

In reading order:

    cycle           locks the store, prepares the data, runs the rounds; resumes a killed cycle
    cycle_state     what each round computes, in its two halves
    round_choice    which round is served
    refresh         whether a run is worth it, and what it does: a cycle, an index, or nothing
    drift_probe     how many neighbours stay, if our code changed
    status          what is served, what is stale, what the next run would do and cost
    forecast        what a first cycle will take, from a probe
    stopped_rounds  rounds that were stopped because the embedding collapsed
    failures        failed runs in the store's log
"""
