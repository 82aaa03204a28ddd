"""One file a command of `rgc`.
Uses everything else in pipeline, and the options and the terminal beside this folder."""
