"""The cycle as a Prefect flow: once, on a schedule or in a work pool.

In reading order:

    flow             the cycle as a flow, its stages as tasks, what is retried
    single_run       one cycle now, as `remine run` does it
    schedule         serves the flow on a schedule until it is interrupted
    prefect_server   the configured Prefect server, or a temporary one
    tether           ends that temporary server together with the process that started it
    crashed_runs     marks runs whose process is gone, cancels runs that are out of date
    artifacts        progress, table of rounds and link to the report in Prefect's pages
"""
