"""What composes data, index, mining and train: stages, cycles, servers, reports, commands.

From the top layer down; a package imports only those below it:

    cli             the commands of `remine`
    api             the Python interface: `remine.open`, `remine.run`, `remine.compare`
    serving         the HTTP server and its page
    query           searches of a published version, and its mined triplets
    compare         experiments: several ways to train, their reports and the verdict
    orchestration   the cycle as a Prefect flow, schedules, and the Prefect server
    report          the HTML report of a cycle, and its pictures and tables
    cycle           the rounds of a cycle, what a new cycle reuses, its status
    stages          the stages of a round: prepare, embed, index, evaluate, mine, train
    jobs            how the blocks of a stage run: in this process, on Beam, under torchrun
    config          the configuration file
"""
