"""Entrypoint `flows.orchestrate.cycle` of work-pool deployments made by version 0.1 in a clone."""

from remine.flows.orchestration.flow import cycle

__all__ = ["cycle"]
