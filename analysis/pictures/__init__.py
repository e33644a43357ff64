"""The figures of finished runs, one module each; `analysis.figures` is the command."""
