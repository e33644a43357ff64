"""The paper's Tables 1 to 4 from finished runs: selection of comparable runs, differences, footnotes."""
