"""The audit as one HTML file: its content, and the template, style and scripts that show it.
Uses Jinja, Vega, the codec and `pipeline.audit`."""
