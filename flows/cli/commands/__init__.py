"""One module for each command or group of commands; each imports heavy libraries when it runs.

init, losses            a config with every setting explained; what can be trained with
run, schedule           one cycle now; cycles again and again
status, store           the state of a store; its history, verification and garbage collection
mine                    mining on vectors of the user's own, and its forecast
search, suspects        nearest neighbours; labels that are probably wrong
triplets, index         mined triplets; versions of the index
report, compare         the page of a cycle; offline against in-batch mining
serve                   the served version over HTTP
"""
