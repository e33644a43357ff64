"""The training objective: registered terms and their weighted sum."""
