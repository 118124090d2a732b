"""Executes ``protocols/``: YAML files with typed parameters become plans."""
