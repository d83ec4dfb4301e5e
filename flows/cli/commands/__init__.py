"""The command line's groups, one a module. Heavy libraries are imported where they are used."""
