"""The paper's Tables 1 to 4 from finished runs: which runs may stand in one table, their differences, their footnotes."""
