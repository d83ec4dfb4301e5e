"""What people read about a cycle: a table in the terminal, an HTML page.

In reading order:

    cycle_page      the report page of a cycle
    rounds_table    one row for each round, for the page and the terminal
    rejection       how well unknown items are rejected, for the page and the terminal
    health_curves   staleness and health of each round, for the page
    plots           plots of the page as inline SVG
    item_cards      items as cards, with a picture or a text

    plot_style      style of all plots, this page's and the comparison's
    rendering       HTML from the package's templates
    metric_names    names of metrics as people write them
"""
