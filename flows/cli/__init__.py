"""The command line.

In reading order:

    main        the application: all commands, and how errors end
    options     options that several commands take
    commands/   one module for each command or group of commands
"""
