"""What stages run on: units of work, any Beam runner, the console.

In reading order:

    job             a stage's work cut into units, run one after the other
    beam            the same on a Beam runner; beam_worker is the function that Beam distributes
    stage_code      the part of a stage's key that changes when the code does
    run_context     what every stage is given: settings, store, console
    console         progress on a terminal, or as plain lines
    torchrun        several processes that train together
    environment     variables that must be set before the engines are imported
"""
