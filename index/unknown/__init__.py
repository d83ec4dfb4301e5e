"""Queries that belong to no class of the index, told apart by the distance of their nearest item.

distance_limits  limits on that distance by the wished rate of false alarms, measured on val
rejection        how well the limits reject unknown items, measured on test
"""
