"""One module for each command or group of commands; each imports heavy libraries when it runs.

By what they are for:

    init, check, losses     a config with every setting explained; what a source holds; what can be
                            trained with
    run, schedule           one cycle now; cycles again and again
    status, store           the state of a store; its history, verification and garbage collection
    mine                    mining on the user's own vectors, and its forecast
    search, suspects        nearest neighbours; labels that are probably wrong
    triplets, index         mined triplets; versions of the index
    report, compare         the page of a cycle; offline against in-batch mining
    serve                   the served version over HTTP
"""
