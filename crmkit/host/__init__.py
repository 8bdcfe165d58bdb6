"""From crmkit.toml to what the steps are set up with: settings checked, plugins found and loaded one at a time.

- `document`: crmkit.toml as it is written: values, the line of each key, and problems that name both
- `reference`: secrets by reference: `env:NAME`, `file:PATH`
- `sections`: the core's own sections, as pydantic models
- `config`: the whole file: core sections checked, the rest kept for the plugins that own it
- `catalogue`: which plugins are installed, and what to say of one that is not
- `requirement`: what a distribution needs and is not there
- `plugins`: one plugin: loaded, its hooks checked, what it yields handed on typed
- `opening`: adapters and playbooks loaded, their settings checked, everything that is wrong collected
- `vault`: what adapters remember, locked with the installation's key
- `host`: all of it together: shops, channels, playbooks, templates; what the steps are set up with
- `schema`: JSON Schema of the configuration, and the configuration shown without its secrets
"""
