"""The command line: `python -m remine` and, under torchrun, `-m remine run`."""

from remine.flows.cli.main import main

if __name__ == "__main__":
    main()
