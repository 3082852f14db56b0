"""The command line that talks to a service: one module a resource, each with a Typer of its own named `commands`."""
