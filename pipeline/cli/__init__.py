"""The command line `rgc`: its commands, their options and what they print.
Uses everything else; nothing uses it."""
