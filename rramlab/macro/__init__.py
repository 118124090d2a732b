"""The macro as mathematics: geometry, pulses, selections, pairs, masks, gate patterns, placement, codes to siemens.

Pure functions and frozen data; nothing here knows an instrument, a file or a clock.
"""
