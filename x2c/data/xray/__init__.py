"""One X-ray file: its header, its display, its margins."""
