"""Tables as Markdown, LaTeX, HTML and terminal text, independent of their content."""
