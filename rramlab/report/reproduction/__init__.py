"""The report of a reproduction: the table, the gains, and the pictures behind them."""
