"""Plain values → what people look at: HTML, coloured text, plots. Nothing here knows an index."""
