"""Does offline mining beat online mining on this data? Arms with equal budgets.

In reading order:

    experiment         runs every arm with every seed, then writes the tables
    arms               what the arms are: configurations that differ in the choice of triplets
    contestant         one arm with one seed: trains and mines until the budget is used up
    evaluation         metrics of a checkpoint on val and on test
    verdict            means, intervals and paired differences, and what they allow to say
    comparison_page    the page and the terminal's summary, from the tables alone
    comparison_plots   its plots as inline SVG
    projection         a two-dimensional map of the test embeddings
"""
