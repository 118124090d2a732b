"""What every layer needs and no layer owns: errors with exit codes, units, files, YAML with line numbers."""
