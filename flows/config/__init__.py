"""The configuration of a run: one TOML file, and the texts that describe it.

    settings        all tables together, and the TOML loader
    comparison      the table [compare]
    refresh_policy  the table [refresh]
    template        the commented config of `remine init`
    loss_catalogue  the text of `remine losses`

The other tables stand beside the code that they configure, in `config.py`; what they have in common
is `data/config_table.py`.
"""
