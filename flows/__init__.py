"""Everything that composes the rest: Beam jobs, Prefect flows, reports, the command line."""
