"""The paper's tasks from virgin dies to a table, with the baselines that its claims are compared with."""
