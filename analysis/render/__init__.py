"""Tables as Markdown, LaTeX, HTML and terminal text, whatever they hold."""
