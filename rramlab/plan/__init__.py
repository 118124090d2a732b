"""Plans as data: steps, the operations they expand to, the one check against limits, the one estimate of cost."""
