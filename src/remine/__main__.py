"""The command line: `python -m remine` and, under torchrun, `-m remine run`."""

from remine.flows.cli.app import main

if __name__ == "__main__":
    main()
