"""Source-measure units: one generic class that executes the driver files of kind ``smu``."""
